"""Files of weights: what is damaged or hostile is one line and little memory, and names are found below any wrapper."""

from __future__ import annotations

import json
import os
import pickle
import resource
import socket
import struct
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from latsem.backends.importing.pickles import read_pickle
from latsem.components.hub import fetch
from latsem.components.weight_files import read_safetensors, read_state, read_torch, require_held
from latsem.components.weights import differences, fill, unwrapped


def header(values: Any, data: bytes = b"") -> bytes:
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**values: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | values}


DAMAGED = {
    "empty": b"",
    "text": b"these are no tensors",
    "a header longer than the file": struct.pack("<Q", 90 * 2**20) + b"{}",
    "a header longer than memory": struct.pack("<Q", 2**62) + b"{}",
    "a header that is no UTF-8": header(b"\xff\xfe"),
    "a deep header": header(b"[" * 100_000),
    "a list": header([1, 2]),
    "an unknown type": header(entry(dtype="F99"), b"\0" * 4),
    "more elements than bytes": header(entry(shape=[2**40, 2**40]), b"\0" * 4),
    "missing bytes": header(entry(), b"\0" * 3),
    "more bytes": header(entry(), b"\0" * 5),
}


@pytest.mark.parametrize("kind", list(DAMAGED))
def test_a_damaged_safetensors_file_is_one_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(DAMAGED[kind])
    with pytest.raises(ValueError, match="is no whole safetensors file") as error:
        read_safetensors(path)
    assert str(error.value).startswith(f"{path} ") and "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_cut_file_a_pipe_a_folder_and_none_at_all_are_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "file.safetensors"
    save_file({"a": torch.arange(100.0), "b.c": torch.ones(2)}, path)
    assert list(read_safetensors(path, "b.")) == ["b.c"]
    path.write_bytes(path.read_bytes()[:-1])
    places = {"file.safetensors": "no whole", "pipe": "not a regular", ".": "not a regular", "none": "No such file"}
    for where, message in ((tmp_path / name, message) for name, message in places.items()):
        with pytest.raises(ValueError, match=message) as error:
            read_safetensors(where)
        assert str(where) in str(error.value) and "\n" not in str(error.value)


def legacy(body: bytes) -> bytes:
    """Return a file as torch.save wrote it before it wrote zip files, around one pickle."""
    sizes = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    return (
        b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, sizes)) + body + pickle.dumps([], 2)
    )


GREEDY = {
    "bytearray": b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "bytearray of Python 2": b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "memo": b"\x80\x02}r\xff\xff\xff\x0f.",
    "bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**31) + b"abc.",
}


@pytest.mark.parametrize("form", ["legacy", "bare", "zip"])
@pytest.mark.parametrize("kind", list(GREEDY))
def test_a_few_bytes_that_ask_for_gigabytes_are_refused_before_they_get_them(
    kind: str, form: str, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    if form == "zip":
        torch.save({}, path)
        with zipfile.ZipFile(path) as whole:
            entries = {each.filename: whole.read(each) for each in whole.infolist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, GREEDY[kind] if name.endswith("data.pkl") else content)
    else:
        path.write_bytes(legacy(GREEDY[kind]) if form == "legacy" else GREEDY[kind])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="only tensors and plain values|is not a checkpoint that torch.save wrote"):
        read_torch(path)
    # The reader of components takes a bare pickle, of which an old file's first is a number.
    with nullcontext() if form == "legacy" else pytest.raises(ValueError, match="more memory|holds|expected"):
        read_pickle(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_compressed_files_and_tensors_that_the_file_does_not_hold_are_refused(tmp_path: Path) -> None:
    path, packed = tmp_path / "whole.pt", tmp_path / "packed.pt"
    torch.save({"a": torch.zeros(1000)}, path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in whole.infolist():
            archive.writestr(each.filename, whole.read(each))
    with pytest.raises(ValueError, match="is compressed"):
        read_torch(packed)
    require_held(read_state(path), path)
    # A storage of 2 GB that is named, and of which nothing is in the file.
    named = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\x00\x00\x00\x20NtQ"
    rebuilt = b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(" + named
    path.write_bytes(legacy(rebuilt + b"K\x00J\x00\x00\x00\x20\x85K\x01\x85\x89}tRs."))
    with pytest.raises(ValueError, match="2,147,483,648 bytes, and has fewer itself"):
        require_held(read_state(path), path)


def test_repeated_values_and_other_types_are_no_weights() -> None:
    wanted = {"a": torch.zeros(1000, 1000)}
    assert differences({"a": torch.zeros(1000, 1000).half()}, wanted) == ""
    for other in (
        torch.zeros(1).expand(1000, 1000),
        torch.zeros(1000, 1000).int(),
        torch.zeros(1000, 1000).to_sparse(),
    ):
        assert differences({"a": other}, wanted) == "has another type of 'a'"
    assert differences({"a": torch.zeros(1000, 10)}, wanted) == "has another shape of 'a' (1000x10 for 1000x1000)"


def test_differences_name_a_few_and_say_how_many() -> None:
    network = nn.Sequential(*[nn.BatchNorm1d(3) for _ in range(4)])
    state = network.state_dict()
    assert differences(state, state) == ""
    # Files of before 2018 do not count batches.
    assert differences({name: each for name, each in state.items() if "num_batches" not in name}, state) == ""
    some = {name: each for name, each in state.items() if not name.startswith("1.")} | {"x": torch.ones(1)}
    assert differences(some, state) == "misses '1.weight', '1.bias', '1.running_mean' ... (4); holds the unknown 'x'"


def test_names_are_found_below_wrappers_and_inside_larger_models() -> None:
    state = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).state_dict()
    wanted = state.keys()
    for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "a.b.c."):
        assert unwrapped({prefix + name: each for name, each in state.items()}, wanted).keys() == wanted
    beside = {"net." + name: each for name, each in state.items()} | {"head.weight": torch.ones(1)}
    assert unwrapped(beside, wanted).keys() == wanted
    # Without a prefix nothing is left out: what is unknown is found.
    assert set(unwrapped(state | {"head.weight": torch.ones(1)}, wanted)) == {*wanted, "head.weight"}
    inside = {name.replace("0.", "0._orig_mod.", 1): each for name, each in state.items()}
    assert unwrapped(inside, wanted).keys() == wanted
    with pytest.raises(ValueError, match="'0.weight' twice"):
        unwrapped(state | inside, wanted)
    with pytest.raises(ValueError, match=r"2 times, below 'a\.', 'b\.'"):
        unwrapped({side + name: each for side in ("a.", "b.") for name, each in state.items()}, wanted)


def test_a_network_is_filled_in_its_own_type_or_not_at_all() -> None:
    network, other = nn.Linear(2, 2), nn.Linear(2, 2)
    before = {name: each.clone() for name, each in network.state_dict().items()}
    with pytest.raises(ValueError, match="not finite in 'bias'"):
        fill(network, other.state_dict() | {"bias": torch.tensor([0.0, torch.inf])})
    with pytest.raises(ValueError, match="misses 'bias'"):
        fill(network, {"weight": torch.ones(2, 2)})
    assert all(torch.equal(network.state_dict()[name], each) for name, each in before.items())
    fill(network, {f"module.{name}": each.half() for name, each in other.state_dict().items()})
    assert network.weight.dtype == torch.float32 and torch.allclose(network.weight, other.weight, atol=1e-3)


def cached(folder: Path, file: str) -> Path:
    """Lay a file into a cache of the hub, as a download does, and return the cache."""
    repository, commit = folder / "hub" / "models--some--vae", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    path = repository / "snapshots" / commit / file
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    return folder / "hub"


def test_what_the_cache_of_the_hub_has_is_used_without_asking_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    def no_network(*arguments: object, **options: object) -> Any:
        raise OSError("asked for a connection")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cached(tmp_path, "vae/config.json")))
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    assert fetch("some/vae", "vae/config.json").read_text() == "{}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"other.json of some/vae is not here and cannot be fetched") as error:
        fetch("some/vae", "other.json")
    assert "\n" not in str(error.value)
