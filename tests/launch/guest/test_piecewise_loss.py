"""The loss in pieces: the whole one's value and gradient, whatever the size of a piece; refused where it must be."""

import pytest

from launch.guest import piecewise_loss

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.stack


@pytest.mark.parametrize("rows_a_piece", [1, 10, 37, 1000])
def test_the_loss_in_pieces_is_the_whole_ones_with_its_gradient(
    rows_a_piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(rows_a_piece)
    monkeypatch.setattr(piecewise_loss, "_PIECE_BYTES", 4 * 101 * rows_a_piece)
    hidden = torch.randn(37, 16, dtype=torch.float64, requires_grad=True)
    weight, targets = torch.randn(101, 16, dtype=torch.float64), torch.randint(0, 101, (37,))
    targets[::5] = -100
    whole = torch.nn.functional.cross_entropy(hidden @ weight.t(), targets, ignore_index=-100, reduction="sum")
    (expected,) = torch.autograd.grad(whole / 7, hidden)
    pieces = piecewise_loss.build_loss()(hidden, weight, targets)
    (found,) = torch.autograd.grad(pieces / 7, hidden)
    assert float(pieces) == pytest.approx(float(whole), rel=1e-6)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("head", "is_trained"), [("Linear", True), ("biased", False), ("other", False)])
def test_an_output_layer_that_is_trained_or_unusual_keeps_the_whole_loss(head: str, is_trained: bool) -> None:
    layer = torch.nn.Linear(4, 8, bias=head == "biased") if head != "other" else torch.nn.Identity()
    layer.requires_grad_(is_trained)

    class Model(torch.nn.Module):  # type: ignore[name-defined,misc]
        loss_function = staticmethod(lambda **kwargs: kwargs)

        def get_output_embeddings(self) -> object:
            return layer

    model = Model()
    forward = model.forward
    assert piecewise_loss.install(model) is False
    assert model.forward == forward
