"""Sphinx extension: a chapter's number is the number of its folder, so that it never depends on what else exists."""

import re

from docutils import nodes
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles


def number_by_folder(assign):
    """Wrap the numbering of sections: the first number becomes that of the folder ``chapters/<number>_...``."""

    def assign_section_numbers(self, env) -> list[str]:
        before = env.toc_secnumbers
        assign(self, env)
        for docname, numbers in env.toc_secnumbers.items():
            folder = re.match(r"chapters/(\d+)_", docname)
            if folder is None:
                continue
            chapter = int(folder[1])
            for anchor, number in numbers.items():
                numbers[anchor] = number and (chapter, *number[1:])
            for node in [env.titles[docname], *env.tocs[docname].findall(nodes.reference)]:
                if node.get("secnumber"):
                    node["secnumber"] = [chapter, *node["secnumber"][1:]]
        return [docname for docname, numbers in env.toc_secnumbers.items() if numbers != before.get(docname)]

    return assign_section_numbers


def setup(app):
    """Register the extension with Sphinx, around the numbering that Jupyter Book's table of contents does."""
    assign = TocTreeCollectorWithStyles.assign_section_numbers
    if assign.__module__ != __name__:
        TocTreeCollectorWithStyles.assign_section_numbers = number_by_folder(assign)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
