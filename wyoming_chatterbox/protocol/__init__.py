"""The Wyoming edge: bytes → requests, audio → bytes. It knows no tensors."""
