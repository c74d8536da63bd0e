"""Figures that run in the reader's browser: the course's own models, without a server, an installation or a download.

latent      a plane of codes, and the picture that stands at a point of it
sliders     a generator, with a slider for each number that it starts from
sampler     a sampler to play, pause and step
prompt      a language model that goes on with the reader's text
export      what they rest on: a JAX function as a graph of plain numbers, which ``runtime.js`` computes
"""

from genai_course.live._export import export
from genai_course.live._figure import Figure, latent, prompt, sampler, sliders

__all__ = ["Figure", "export", "latent", "prompt", "sampler", "sliders"]
