"""A second device that is none: tensors computed here but counted as there, and what a real one refuses is refused.

    with OtherDevice() as there:
        model.to(there)
        model.fit(batch.to(there) for batch in batches)

PyTorch's two modes see every call (`x.to`, `x.device`, `torch.rand(..., device=...)`, `x.numpy`) and every operation
below it, those of backward passes included. A tensor is there if its storage is. Operations on both devices raise
`Mixed`, but for what PyTorch allows: copies from one to the other, numbers without dimensions from here, and indices.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

THERE: Final = torch.device("cuda")
HERE: Final = torch.device("cpu")

COPIES: Final = frozenset({"copy_", "_copy_from", "_local_scalar_dense", "_has_compatible_shallow_copy_type"})
JOINS: Final = frozenset({"cat", "stack"})
"""Operations that take no number of another device beside tensors."""
_BACKWARD: Final = BackwardCFunction.apply
INDEXING: Final = frozenset({"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"})


class Mixed(RuntimeError):
    """An operation on tensors of two devices, or one that only tensors of the CPU have."""


class OtherDevice:
    """While it is entered, `torch.device("cuda")` is a device that computes as this one does."""

    _storages: ClassVar[dict[int, StorageWeakRef]] = {}
    """What is there, by address: what one test left in a cache is there for the next one, too."""

    def __init__(self) -> None:
        self.inside = False
        """Whether PyTorch itself is at work on tensors there: what it makes meanwhile is there, too."""
        self._modes = (_Operations(self), _Calls(self))
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> torch.device:
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", message=".*(CUDA|cuDNN).*")
        for mode in self._modes:
            mode.__enter__()
        BackwardCFunction.apply = self._backward
        return THERE

    def __exit__(self, *about: Any) -> None:
        BackwardCFunction.apply = _BACKWARD
        for mode in reversed(self._modes):
            mode.__exit__(*about)
        self._warnings.__exit__(*about)

    @property
    def _backward(self) -> Callable[..., Any]:
        """Runs gradients that are written in Python within the mode that PyTorch leaves out there."""
        calls = self._modes[1]

        def apply(function: Any, *gradients: Any) -> Any:
            with calls:
                return _BACKWARD(function, *gradients)

        return apply

    def has(self, tensor: Tensor) -> bool:
        """Whether a tensor is there; also from outside the modes."""
        # The reference keeps the address from being given to another storage.
        return tensor.untyped_storage()._cdata in self._storages

    def place(self, tensor: Tensor, there: bool) -> None:
        storage = tensor.untyped_storage()
        if there:
            self._storages[storage._cdata] = StorageWeakRef(storage)
        else:
            self._storages.pop(storage._cdata, None)


class _Moved(torch.autograd.Function):
    """A copy on the other device; its gradient goes back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, devices: OtherDevice, there: bool) -> Tensor:
        ctx.devices, ctx.there = devices, there
        moved = tensor.detach().clone()
        devices.place(moved, there)
        return moved

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        moved = gradients[0].clone()
        ctx.devices.place(moved, not ctx.there)
        return moved, None, None


class _Calls(TorchFunctionMode):
    """Moves tensors, makes them, and records where they are."""

    def __init__(self, devices: OtherDevice) -> None:
        super().__init__()
        self._devices = devices

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        named, devices = dict(kwargs or {}), self._devices
        name = getattr(func, "__name__", "")
        if name == "__get__" and getattr(func.__self__, "__name__", "") in ("device", "is_cuda", "is_cpu"):
            there = devices.has(args[0])
            return {"device": THERE if there else HERE, "is_cuda": there, "is_cpu": not there}[func.__self__.__name__]
        if func in (Tensor.numpy, Tensor.__array__) and devices.has(args[0]):
            raise Mixed("can't convert a tensor of the other device to numpy; use Tensor.cpu() first")
        if func is torch.device or name == "_parse_to":  # they only read how a device is written
            return func(*args, **named)
        if func is Tensor.cpu:
            return self._moved(args[0], there=False)
        if func is Tensor.cuda:
            return self._moved(args[0], there=True)
        wished = [one for one in (*args, *named.values()) if isinstance(one, torch.device | str) and _is_device(one)]
        if func is Tensor.to:
            given = (*args[1:], *named.values())
            like = next((one for one in given if isinstance(one, Tensor)), args[0])
            wanted = _is_there(wished[0]) if wished else devices.has(like)
            dtype = next((one for one in given if isinstance(one, torch.dtype)), like.dtype)
            rest = {key: value for key, value in named.items() if key in ("copy", "memory_format")}
            return self._moved(func(args[0], dtype, **rest), wanted)
        before, devices.inside = devices.inside, any(map(devices.has, _tensors((args, named))))
        try:
            if not wished:
                return func(*args, **named)
            args, named = _at_home(args, named)
            made = func(*args, **named)
        finally:
            devices.inside = before
        for tensor in _tensors(made):
            devices.place(tensor, _is_there(wished[0]))
        return made

    def _moved(self, tensor: Tensor, there: bool) -> Tensor:
        if self._devices.has(tensor) == there:
            return tensor
        if tensor.requires_grad and torch.is_grad_enabled():
            return _Moved.apply(tensor, self._devices, there)
        moved = tensor.clone()
        self._devices.place(moved, there)
        return moved


class _Operations(TorchDispatchMode):
    """Refuses operations on both devices, and puts what comes of an operation where its operands are."""

    def __init__(self, devices: OtherDevice) -> None:
        super().__init__()
        self._devices = devices

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        named, devices = dict(kwargs or {}), self._devices
        name = func._schema.name.partition("::")[2]
        # Indices may be here where what they point into is there.
        operands = [args[0], *args[2:]] if name in INDEXING and devices.has(args[0]) else [args, named]
        tensors = _tensors(operands)
        there = [one for one in tensors if devices.has(one)]
        if name not in COPIES:
            self._check(name, func, args, tensors, there)
        made = func(*args, **named)
        if (there or (not tensors and devices.inside)) and name not in COPIES:
            for tensor in _tensors(made):
                devices.place(tensor, True)
        return made

    def _check(self, name: str, func: Any, args: Any, tensors: list[Tensor], there: list[Tensor]) -> None:
        here = [one for one in tensors if not any(one is other for other in there)]
        if not here or not there:
            return
        written = [
            one
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
            for one in _tensors(value)
        ]
        numbers_only = all(one.ndim == 0 for one in here)
        if name in JOINS or not numbers_only or any(one is other for one in here for other in written):
            shapes = ", ".join(f"{tuple(one.shape)} {'there' if self._devices.has(one) else 'here'}" for one in tensors)
            raise Mixed(f"{name} expects all tensors to be on the same device, but found {shapes}")


def _tensors(tree: Any) -> list[Tensor]:
    return [one for one in tree_leaves(tree) if isinstance(one, Tensor)]


def _is_device(value: Any) -> bool:
    return isinstance(value, torch.device) or value.partition(":")[0] in ("cpu", "cuda")


def _is_there(value: Any) -> bool:
    return torch.device(value).type == THERE.type


def _at_home(args: Iterable[Any], named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments, with this device in place of the other."""

    def home(value: Any) -> Any:
        return HERE if isinstance(value, torch.device | str) and _is_device(value) else value

    return tuple(map(home, args)), {name: home(value) for name, value in named.items()}
