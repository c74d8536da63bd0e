"""Figures that run in the reader's browser: the course's own models, without a server, an installation or a download.

export      a JAX function as a graph of plain numbers, which ``runtime.js`` computes
"""

from genai_course.live._export import export

__all__ = ["export"]
