"""The transformer, its text, and how it is trained."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from wsp.lab import language
from wsp.lab.language import CONTEXT, Block, CharTransformer, cut, load_text, rates, train, train_old


def order(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small() -> CharTransformer:
    torch.manual_seed(0)
    return CharTransformer(characters=4, width=8, heads=2, blocks=2)


TEXT = torch.randint(4, (400,), generator=order(9))


def test_the_text_is_the_frozen_one() -> None:
    text = load_text()
    assert text.dtype == torch.int64 and len(text) == language.LENGTH
    assert len(set(text.tolist())) == language.CHARACTERS


def test_an_altered_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    altered = tmp_path / language.TEXT
    monkeypatch.setattr(language, "find", lambda name: tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such text"):
        load_text()
    altered.write_text("First Citizen:\n")
    with pytest.raises(ValueError, match="another SHA-256"):
        load_text()


def test_parts_of_a_cut_share_nothing() -> None:
    """Each character is in one part, and held-out lines follow those that are trained on."""
    text = torch.arange(1000)
    for number in range(language.CUTS):
        found = cut(text, number, train=300, held=200)
        inside = torch.cat([found.old, found.old_held, found.new, found.new_held])
        assert torch.equal(inside.sort().values, text)
        assert int(found.old[0]) == 100 * number
        assert int(found.old_held[0]) == (int(found.old[-1]) + 1) % 1000
        assert int(found.new_held[0]) == (int(found.new[-1]) + 1) % 1000


def test_short_cuts_are_apart() -> None:
    text = torch.arange(1500)
    whole = [cut(text, number, train=75, held=70) for number in (0, 2)]
    assert not set(whole[0].new_held.tolist()) & set(whole[1].old.tolist())


@pytest.mark.parametrize(
    "number, train_, held", [(10, 100, 100), (-1, 100, 100), (0, 200, 400), (0, 64, 100)]
)
def test_bad_cuts_are_refused(number: int, train_: int, held: int) -> None:
    with pytest.raises(ValueError, match=r"cuts|characters"):
        cut(torch.arange(1000), number, train_, held)


def test_no_character_sees_a_later_one() -> None:
    """What comes after a place changes nothing of what is said there."""
    network = small()
    pieces = TEXT[:CONTEXT].view(1, -1)
    other = pieces.clone()
    other[0, 30:] = (other[0, 30:] + 1) % 4
    one, two = network(pieces), network(other)
    assert torch.allclose(one[:, :30], two[:, :30], atol=1e-6)
    assert not torch.allclose(one[:, 30:], two[:, 30:], atol=1e-3)


def test_attention_is_torchs() -> None:
    """The same numbers as the layer that PyTorch ships."""
    block = Block(8, heads=2)
    theirs = torch.nn.TransformerEncoderLayer(
        8, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    with torch.no_grad():
        in_ = block.query, block.key, block.value
        theirs.self_attn.in_proj_weight.copy_(torch.cat([layer.weight for layer in in_]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([layer.bias for layer in in_]))
    theirs.self_attn.out_proj.load_state_dict(block.mix.state_dict())
    theirs.linear1.load_state_dict(block.wide.state_dict())
    theirs.linear2.load_state_dict(block.narrow.state_dict())
    x = torch.randn(3, 5, 8)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5)
    assert torch.allclose(block(x), theirs(x, src_mask=mask, is_causal=True), atol=1e-5)


def test_rates_go_up_stay_and_come_down() -> None:
    found = rates(200, 0.5)
    assert found[0] == 0.05 and found[9:141] == [0.5] * 132
    assert all(one > other > 0 for one, other in pairwise(found[140:]))
    assert language.decays_after(200) == 140 and len(found) == 200


def test_pieces_come_from_one_part() -> None:
    """Parts of one character each: what follows an 'a' is an 'a', so the loss goes to zero."""
    network = small()
    train(network, [torch.zeros(70).long(), torch.ones(70).long()], [0.02] * 60, order())
    assert language.held_out_loss(network, torch.ones(200).long()) < 0.01


def test_checkpoints_are_of_their_steps() -> None:
    """Before the decay, and at the end: with its Adam the first of them trains to the second."""
    network, steps = small(), 20
    before, end = train_old(network, TEXT, steps, 0.01, order(3))
    again = copy.deepcopy(before.network)
    rest = order(3)
    for _ in range(14):
        torch.randint(400 - CONTEXT, (language.BATCH, 1), generator=rest)
    train(again, [TEXT], rates(steps, 0.01)[14:], rest, adam=before.adam)
    for one, other in zip(again.parameters(), end.network.parameters()):
        assert torch.equal(one, other)
    other_way = copy.deepcopy(before.network)
    train(other_way, [TEXT], rates(steps, 0.01)[14:], order(3))
    assert not torch.equal(other_way.head.weight, end.network.head.weight)


def test_the_state_that_is_given_stays_as_it_is() -> None:
    before, _ = train_old(small(), TEXT, 20, 0.01, order())
    kept = copy.deepcopy(before.adam["state"][0]["exp_avg"])
    train(copy.deepcopy(before.network), [TEXT], [0.01] * 3, order(), adam=before.adam)
    assert torch.equal(before.adam["state"][0]["exp_avg"], kept)


def test_a_loss_that_is_not_finite_stops() -> None:
    network = small()
    with torch.no_grad():
        network.head.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="in step 1"):
        train(network, [TEXT], [0.01], order())
