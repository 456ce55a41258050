"""Types of C."""

__all__ = ["C_TYPES"]

C_TYPES = {
    "float32": "float", "int8": "int8_t", "uint8": "uint8_t", "int32": "int32_t", "uint32": "uint32_t",
    "int16": "int16_t", "uint16": "uint16_t", "bool": "uint8_t",
}  # fmt: skip
"""By numpy name."""
