"""How large a model is: parameters, and bytes on disk."""

from dataclasses import asdict, dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """The size of a model.

    Attributes:
        parameters: Number of parameters; a shared tensor counts once. None where nothing tells.
        bytes: Bytes of what is saved: parameters and persistent buffers, in the data types they have now.
    """

    parameters: int | None
    bytes: int

    @classmethod
    def of(cls, model: nn.Module) -> "Size":
        """The size of a model."""
        return cls(parameters(model), size_bytes(model))

    def to_json(self) -> dict[str, int | None]:
        """The size as plain data."""
        return asdict(self)


def parameters(model: nn.Module) -> int:
    """The number of parameters of a model. Shared (tied) tensors count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def size_bytes(model: nn.Module) -> int:
    """The bytes of a model's saved tensors, shared ones once: its `model.safetensors` but for the header."""
    # keep_vars: without it every entry is a new tensor, and tied ones cannot be told.
    saved = model.state_dict(keep_vars=True).values()
    tensors = {id(tensor): tensor for tensor in saved if isinstance(tensor, Tensor)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
