"""What an executable of XLA really computes in, from the HLO that its compiler left."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

_PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "s8": "int8", "u8": "int8"}
# The instruction, and the type of its first operand: a product's result may be wider than what it multiplies.
_PRODUCT = re.compile(r" (dot|convolution|custom-call)\((?:/\*.*?\*/)?(\w+)\[[^\n]*")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
# Products that a GPU's libraries compute: __cublas$gemm, __cublas$lt$matmul, __cudnn$convForward, …
_LIBRARY_PRODUCT = re.compile(r"gemm|matmul|conv|fmha", re.IGNORECASE)


def executed_types(executable: Any) -> dict[str, int]:
    """The products (of matrices, convolutions) of an executable's optimized program, counted by the precision they are computed in."""
    from jaxlib.xla_client import hlo

    options = hlo.HloPrintOptions()
    options.print_operand_shape = True
    options.print_large_constants = False  # the weights
    options.print_metadata = False
    return count_products("\n".join(module.to_string(options) for module in executable.hlo_modules()))


def count_products(text: str) -> dict[str, int]:
    """The same of HLO as text, whose operands stand with their types."""
    counts: Counter[str] = Counter()
    for match in _PRODUCT.finditer(text):
        operation, element = match[1], match[2]
        target = _TARGET.search(match[0])
        if operation != "custom-call" or (target and _LIBRARY_PRODUCT.search(target[1])):
            counts[_PRECISIONS.get(element, element)] += 1
    return dict(counts)
