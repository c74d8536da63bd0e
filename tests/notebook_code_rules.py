"""The rules on a notebook's format and code: see notebook_rules.py for the list."""

import ast
import re

import nbformat
from notebook_source import LATER, LOOP, of_lesson, of_page

KEEP = {"keep_output", "nbval-check-output"}
TAGS = {"hide-input", "hide-output", "remove-input", "solution", "check", "three-lines"} | KEEP
FETCHERS = {"urllib", "requests", "http", "httpx", "socket", "wget", "pooch", "gdown", "subprocess"}
IMPORTS = (ast.Import, ast.ImportFrom)


@of_page
def valid(page, book):
    try:
        nbformat.validate(page.nb)
    except nbformat.ValidationError as error:
        yield None, f"not a valid notebook: {str(error).splitlines()[0]}"
    if (page.nb.nbformat, page.nb.nbformat_minor) != (4, 5):
        yield None, f"save it as nbformat 4.5, not {page.nb.nbformat}.{page.nb.nbformat_minor}"
    if (name := page.nb.metadata.get("kernelspec", {}).get("name")) != "python3":
        yield None, f"its kernelspec must be python3, not {name}"


@of_page
def title(page, book):
    first = page.cells[0] if page.cells else None
    tags = [token.tag for token in first.tokens if token.type != "myst_target"] if first else []
    if tags[:1] != ["h1"]:
        yield first, "open the notebook with a markdown cell whose first line is `# Title`"
    extra = [cell for cell in page.cells for level, _ in cell.headings if level == 1][1:]
    yield from ((cell, "a second H1: use ## and below") for cell in extra)


@of_page
def python(page, book):
    for cell in page.code:
        try:
            ast.parse(cell.python)
        except SyntaxError as error:
            yield cell, f"does not parse: {error.msg} (line {error.lineno})"


@of_page
def magics(page, book):
    for cell in page.code:
        if "get_ipython" in cell.python:
            yield cell, "write plain Python: no `!command`, no `%magic`, no get_ipython()"


@of_page
def imports(page, book):
    for cell in page.code[:1]:
        others = [node for node in cell.tree.body if not isinstance(node, IMPORTS)]
        if len(others) == len(cell.tree.body):
            yield cell, "the first code cell must be the import cell"
        for node in others:
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
                yield cell, f"move `{ast.unparse(node)[:40]}` to the next cell: here only imports and set-up calls"
    for cell in page.code[1:]:
        for node in ast.walk(cell.tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            if any(module.split(".")[0] != "genai_course" for module in modules):
                yield cell, f"move `{ast.unparse(node)}` to the first code cell"


@of_page
def stars(page, book):
    for cell in page.code:
        for node in ast.walk(cell.tree):
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                yield cell, f"name what you need instead of `{ast.unparse(node)}`"


@of_page
def root_key(page, book):
    literal, roots = [], []
    for cell in page.code:
        assigned = [node for node in cell.tree.body if isinstance(node, ast.Assign)]
        roots += [node.value for node in assigned if [ast.unparse(target) for target in node.targets] == ["key"]]
        for call, name, around in page.calls(cell):
            if name != "jax.random.key":
                continue
            if not any(isinstance(node, ast.Name) for arg in call.args for node in ast.walk(arg)):
                literal.append((cell, call))
            elif not any(issubclass(kind, LATER + LOOP) for kind in around):
                yield cell, f"`{ast.unparse(call)}` outside a function or loop: split the one root key instead"
    if not literal and any(name.startswith("jax.random.") for cell in page.code for name in page.names(cell)):
        yield None, "make the root key near the top: `key = jax.random.key(0)`"
    for cell, call in literal[:1]:
        if call not in roots:
            yield cell, "the root key is a statement of its own: `key = jax.random.key(0)`"
    for cell, call in literal[1:]:
        yield cell, f"`{ast.unparse(call)}` is a second literal key: split the root key instead"


@of_page
def randomness(page, book):
    for cell in page.code:
        for name in set(page.names(cell)):
            if name == "jax.random.PRNGKey" or name.startswith("numpy.random") or name.split(".")[0] == "random":
                yield cell, f"`{name}`: draw with a JAX key (jax.random, genai_course.data.rng_from_key)"


@of_page
def network(page, book):
    for cell in page.code:
        for name in set(page.names(cell)):
            last = name.split(".")[-1]
            if name.split(".")[0] in FETCHERS or re.search(r"download|urlopen|urlretrieve|^fetch_", last):
                yield cell, f"`{name}`: a notebook fetches nothing; data come from genai_course.data"


@of_page
def warnings(page, book):
    for cell in page.code:
        for call, name, _ in page.calls(cell):
            silent = any(isinstance(n, ast.Constant) and n.value == "ignore" for n in ast.walk(call))
            if name in ("warnings.filterwarnings", "warnings.simplefilter", "warnings.catch_warnings") and silent:
                yield cell, "remove the cause of the warning, do not silence it"


@of_page
def same_for_all(page, book):
    for cell in page.code:
        asks = any(name in ("os.environ", "os.getenv") for name in page.names(cell))
        strings = {node.value for node in ast.walk(cell.tree) if isinstance(node, ast.Constant)}
        if asks and strings & {"CI", "GITHUB_ACTIONS"}:
            yield cell, "CI runs what readers run: do not ask where you are"


@of_page
def tags(page, book):
    for cell in page.cells:
        for tag in sorted(cell.tags - TAGS):
            yield cell, f"tag `{tag}` is not used in this course; those that are: {', '.join(sorted(TAGS))}"


@of_page
def length(page, book):
    for cell in page.code:
        if (lines := sum(bool(line.strip()) for line in cell.source.splitlines())) > 25:
            yield cell, f"{lines} lines: split the cell, 25 is the limit"


@of_page
def stripped(page, book):
    for cell in page.code:
        if cell.outputs and not cell.tags & KEEP:
            yield cell, "has output: run `nbstripout --keep-count --keep-id` on the notebook"
        if noise := {"execution", "ExecuteTime", "collapsed", "scrolled"} & set(cell.metadata):
            yield cell, f"metadata {sorted(noise)}: run `nbstripout --keep-count --keep-id` on the notebook"


@of_page
def kept_output(page, book):
    for cell in page.cells:
        if not cell.tags & KEEP:
            continue
        if not cell.tags >= KEEP:
            yield cell, "`keep_output` and `nbval-check-output` come together"
        if not cell.outputs or cell.execution_count is None:
            yield cell, "run the notebook before you strip it: without output and execution count nothing is compared"
        if any(o.output_type == "error" or set(o.get("data", {})) - {"text/plain"} for o in cell.outputs):
            yield cell, "only deterministic text is kept: neither pictures nor errors are compared"


@of_lesson
def claims(page, book):
    visible = [cell for cell in page.code if not cell.tags & {"solution", "check", "hide-input", "remove-input"}]
    if sum(len(cell.asserts) for cell in visible) < 3:
        yield None, "turn what it claims into at least three asserts in visible cells"
    if not any(cell.asserts for cell in page.section("What we measured") if cell in visible):
        yield None, "assert what it claims under `## What we measured`"
    for cell in page.code:
        for node in cell.asserts:
            if not any(isinstance(n, ast.Name) for n in ast.walk(node.test)):
                yield cell, f"`{ast.unparse(node)[:40]}` cannot fail"
