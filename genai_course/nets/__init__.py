"""Networks for one example; ``jax.vmap`` makes the batch.

basic      perceptron, convolutional encoder and decoder
sequence   recurrent network and transformer, each with one step for generation
denoise    networks of a noisy example, the time and a label, for diffusion and flow matching
"""

from genai_course.nets.basic import MLP, ConvDecoder, ConvEncoder, depth_to_space, parameter_count, space_to_depth
from genai_course.nets.denoise import ResidualMLP, UNet, time_embedding
from genai_course.nets.sequence import GRU, Cache, Transformer

__all__ = [
    "GRU",
    "MLP",
    "Cache",
    "ConvDecoder",
    "ConvEncoder",
    "ResidualMLP",
    "Transformer",
    "UNet",
    "depth_to_space",
    "parameter_count",
    "space_to_depth",
    "time_embedding",
]
