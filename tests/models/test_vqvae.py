"""VQ-VAE: gradients in closed form, codes that survive, a prior that sees only what came before."""

from __future__ import annotations

import pytest
import torch
from model_cases import DIGITS, batch, context, make
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, Context, GenerativeModel
from niwaki.data import Split
from niwaki.models.registry import build
from niwaki.models.vae.codebooks import CODEBOOKS, Averaged, Learned, Levelled
from niwaki.training import StageConfig, TrainConfig, fit


def learned(beta: float = 0.25) -> tuple[Learned, Tensor]:
    torch.manual_seed(0)
    book = Learned(6, 3, beta).double()
    return book, torch.randn(5, 2, 2, 3, dtype=torch.float64, requires_grad=True)


def test_gradients_of_encoder_and_codebook_in_closed_form() -> None:
    """L = ⟨w, q⟩ + β mean‖h − sg e‖² + mean‖sg h − e‖²: ∂L/∂h = w + 2β (h − e)/size, and ∂L/∂e_k is
    Σ 2 (e_k − h)/size over the features that chose k. Neither the decoder's gradient w nor β reaches
    the codebook; the codebook's own term does not reach the encoder (jax-vqvae-gpt #2, #3)."""
    book, h = learned(beta=0.4)
    w = torch.randn(5, 2, 2, 3, dtype=torch.float64)
    q, numbers, terms = book(h)
    ((w * q).sum() + sum(terms.values())).backward()
    e = book.table.detach()[numbers]
    assert h.grad is not None
    torch.testing.assert_close(h.grad, w + 2 * 0.4 * (h.detach() - e) / h.numel())
    expected = torch.zeros_like(book.table)
    expected.index_add_(0, numbers.flatten(), 2 * (e - h.detach()).reshape(-1, 3) / h.numel())
    torch.testing.assert_close(book.table.grad, expected)


def test_what_the_decoder_is_given_is_the_code_itself() -> None:
    book, h = learned()
    q, numbers, _ = book(h)
    torch.testing.assert_close(q, book.table[numbers])


def test_the_nearest_code_is_found() -> None:
    book, h = learned()
    table, flat = book.table.detach(), h.detach().reshape(-1, 3)
    slow = [min(range(6), key=lambda k, v=v: float((v - table[k]).square().sum())) for v in flat]
    assert book.search(h).flatten().tolist() == slow


@pytest.mark.parametrize(
    ("kind", "codes", "dim"), [("learned", 32, 8), ("averaged", 32, 8), ("levelled", 64, 3)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_number_round_trips_also_in_bf16(kind: str, codes: int, dim: int, dtype: torch.dtype) -> None:
    """Vector → number of itself (vector-quantize #114: FSQ in bf16 lost codes)."""
    torch.manual_seed(0)
    book = CODEBOOKS[kind](codes, dim, 0.25)
    numbers = torch.arange(codes)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.bfloat16):
        vectors = book.look_up(numbers)
        # tanh never reaches ±1, so FSQ's outer levels are asked for from where they round to them
        h = torch.atanh(vectors * 0.95) if kind == "levelled" else vectors
        assert torch.equal(book.search(h), numbers)


def test_finite_scalar_quantization_rounds_each_value_and_passes_the_bounds_gradient() -> None:
    book = Levelled(25, 2, 0.0)
    h = torch.tensor([[0.1, -3.0], [0.6, 0.3]], requires_grad=True)
    q, _, terms = book(h)
    assert terms == {}
    torch.testing.assert_close(q, (torch.tanh(h) * 2).round() / 2)
    q.sum().backward()
    torch.testing.assert_close(h.grad, 1 - torch.tanh(h.detach()).square())
    with pytest.raises(CallError, match="no power"):
        Levelled(24, 2, 0.0)


def test_running_means_are_those_of_the_paper_whatever_the_micro_batches() -> None:
    """N ← γN + (1−γ) n, m ← γm + (1−γ) Σh, e = m/N (van den Oord et al. 2017, Equations 6–8)."""
    torch.manual_seed(0)
    book, h = Averaged(4, 2, 0.25), torch.randn(30, 2)
    old = book.table.clone()
    numbers = book.search(h)
    for part in (h[:11], h[11:]):
        book(part)
    book.update()
    for k in range(4):
        mine = h[numbers == k]
        count = 0.99 * 1.0 + 0.01 * len(mine)
        expected = (0.99 * old[k] + 0.01 * mine.sum(0)) / count
        torch.testing.assert_close(book.table[k], expected)
        torch.testing.assert_close(book.count[k], torch.tensor(count))
    assert float(book.seen.abs().sum()) == 0.0


def test_looking_in_evaluation_changes_nothing() -> None:
    book = Averaged(4, 2, 0.25).eval()
    before = {k: v.clone() for k, v in book.state_dict().items()}
    book(torch.randn(9, 2))
    assert all(torch.equal(v, before[k]) for k, v in book.state_dict().items())


def test_k_means_finds_well_parted_clusters() -> None:
    centres = torch.tensor([[0.0, 9.0], [9.0, 0.0], [-9.0, 0.0]])
    h = (centres[:, None] + 0.1 * torch.randn(3, 60, 2, generator=torch.Generator().manual_seed(0))).flatten(
        0, 1
    )
    book = Averaged(3, 2, 0.25)
    for seed in range(20):  # from a choice that meets every cluster
        book.begin(h, torch.Generator().manual_seed(seed))
        far = torch.cdist(centres, book.table).amin(1)
        if float(far.max()) < 0.1:
            return
    pytest.fail("no start found the clusters")


def test_dead_codes_come_back_and_living_ones_stay() -> None:
    book = Averaged(8, 2, 0.25)
    book(torch.randn(5, 2))
    used, old = book.used.clone(), book.table.clone()
    h = 100.0 + torch.randn(40, 2)
    book.revive(h, torch.Generator().manual_seed(0))
    assert 0 < int((used == 0).sum()) < 8
    assert torch.equal(book.table[used > 0], old[used > 0])
    assert (book.table[used == 0][:, None] == h).all(-1).any(1).all()
    assert float(book.used.sum()) == 0.0


class Patches(nn.Module):
    """2×2 patches in an orthonormal basis: an encoder whose transpose decodes without loss."""

    def __init__(self, basis: Tensor, back: bool) -> None:
        super().__init__()
        self.basis, self.back = basis, back

    def forward(self, x: Tensor) -> Tensor:
        if self.back:
            return nn.functional.pixel_shuffle(torch.einsum("dk,ndhw->nkhw", self.basis, x), 2)
        return torch.einsum("dk,nkhw->ndhw", self.basis, nn.functional.pixel_unshuffle(x, 2))


def test_codes_survive_decoding_and_encoding_in_an_exact_codec() -> None:
    model = make("vqvae", codes=12, dim=4).eval()
    basis = torch.linalg.qr(torch.randn(4, 4)).Q
    model.encoder, model.decoder = Patches(basis, False), Patches(basis, True)
    codes = torch.randint(0, 12, (6, 16))
    x = model.run("decode", 6, inputs={"codes": codes})
    assert torch.equal(model.run("encode", 6, inputs={"x": x}), codes)


def test_reading_goes_through_the_searched_codes() -> None:
    model = make("vqvae").eval()
    x = batch(DIGITS, n=4).x
    codes = model.run("encode", 4, inputs={"x": x})
    assert codes.dtype == torch.int64
    assert tuple(codes.shape) == (4, 16)
    h = model.features(x).flatten(1, 2)
    expected = torch.cdist(h, model.codebook.entries()[None].expand(4, -1, -1)).argmin(-1)
    assert torch.equal(codes, expected)


@pytest.mark.parametrize("training", [False, True])
def test_the_prior_is_causal(training: bool) -> None:
    """The gradient of a logit vanishes at every code but those before it, in training mode too."""
    prior = make("vqvae", prior_dropout=0.2).prior.train(training)
    numbers, y = torch.randint(0, 64, (1, 16)), torch.tensor([3])
    fed: list[Tensor] = []
    prior.token.register_forward_hook(lambda m, i, out: fed.append(out.requires_grad_(True)) or out)
    logits = prior(numbers, y)
    fed[0].retain_grad()
    for place in (0, 5, 15):
        fed[0].grad = None
        logits[0, place].sum().backward(retain_graph=True)
        met = fed[0].grad[0].abs().sum(1) > 0  # input i is code i − 1
        assert met[: place + 1].all()
        assert not met[place + 1 :].any()


def test_writing_code_by_code_equals_reading_all_at_once() -> None:
    model = make("vqvae").eval()
    numbers, y = torch.randint(0, 64, (3, 16)), torch.tensor([1, 2, 3])
    graph = model.graphs()["prior"]
    state = [torch.from_numpy(s.zeros(3)) for s in graph.state]
    token = torch.full((3,), 64)
    rows = []
    for i in range(16):
        logits, *new = graph(token, torch.tensor([i]), y, *state)
        for held, row in zip(state, new, strict=True):
            held[:, i : i + 1] = row
        rows.append(logits)
        token = numbers[:, i]
    torch.testing.assert_close(torch.stack(rows, 1), model.prior(numbers, y), atol=1e-5, rtol=0)


def stages(steps: int, **changes: object) -> TrainConfig:
    return TrainConfig(
        batch=16, lr=1e-3, precision="fp32", checkpoint_every=4,
        stages=(
            StageConfig(name="codes", steps=steps),
            StageConfig(name="prior", steps=steps, freeze=("encoder", "codebook", "decoder")),
        ),
        **changes,
    )  # fmt: skip


def split() -> Split:
    data = batch(DIGITS, n=48)
    return Split.of(DIGITS, data.x, data["class"])


class Stop(Exception):
    pass


@pytest.mark.parametrize("kind", ["learned", "averaged"])
def test_a_resumed_training_does_not_begin_its_codes_again(kind: str, tmp_path, monkeypatch) -> None:
    begun: list[str] = []

    def made() -> GenerativeModel:
        return make("vqvae", codebook=kind, revive=2, batches=2, prior_dropout=0.1)

    model = made()
    kind_of = type(model.codebook)
    begin = kind_of.begin
    monkeypatch.setattr(
        kind_of, "begin", lambda self, h, rng: (begun.append("begin"), begin(self, h, rng))[1]
    )
    fit(model, split(), stages(6), seed=1, directory=tmp_path / "whole")
    assert begun == ["begin"]  # once, in the first stage alone
    cut, loss = made(), type(model).loss

    def interrupted(self, phase: str, data: Batch, ctx: Context):
        if self is cut and ctx.step == 5:
            raise Stop
        return loss(self, phase, data, ctx)

    monkeypatch.setattr(type(model), "loss", interrupted)
    with pytest.raises(Stop):
        fit(cut, split(), stages(6), seed=1, directory=tmp_path / "cut")
    begun.clear()
    again = made()
    fit(again, split(), stages(6), seed=1, directory=tmp_path / "cut", resume=True)
    assert begun == []
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


def test_the_prior_stage_leaves_the_codes_alone() -> None:
    model = make("vqvae", codebook="averaged")
    data = batch(DIGITS)
    before = {k: v.clone() for k, v in model.codebook.state_dict().items()}
    ctx = Context(7, 0.5, "prior", {}, torch.Generator())
    model.train()
    model.prepare(data, ctx)
    model.loss("prior", data, ctx)["nll"].backward()
    model.after_step(ctx)
    assert all(torch.equal(v, before[k]) for k, v in model.codebook.state_dict().items())
    assert all(p.grad is None for p in (*model.encoder.parameters(), *model.decoder.parameters()))


def test_terms_are_means_over_values() -> None:
    model = make("vqvae")
    data = batch(DIGITS)
    terms = model.loss("codes", data, context())
    h = model.features(data.x)
    e = model.codebook.look_up(model.codebook.search(h))
    torch.testing.assert_close(terms["commitment"], 0.25 * (h - e).square().mean())
    torch.testing.assert_close(terms["codebook"], (h - e).square().mean())
    x = model.decode(model.encode(data.x))
    torch.testing.assert_close(terms["reconstruction"], (x - data.x).square().mean())


def test_fsq_is_a_preset_without_codebook_parameters() -> None:
    model = build("fsq", {"width": 8}, DIGITS)
    assert isinstance(model.codebook, Levelled)
    assert not list(model.codebook.parameters())


@pytest.mark.parametrize(("codes", "dim"), [(8, 3), (27, 3), (64, 3), (16, 2), (256, 4)])
def test_fsq_begins_with_features_spread_over_all_levels(codes: int, dim: int) -> None:
    """What a fresh encoder says lies within one level: one code for everything, and no way out of it."""
    torch.manual_seed(0)
    model = build("fsq", {"codes": codes, "dim": dim}, DIGITS)
    data = batch(DIGITS, 64)
    with torch.no_grad():
        model.begin_stage(Context(0, 0.0, "codes", {}, torch.Generator().manual_seed(0)), lambda k: data)
    h = model.features(data.x).flatten(0, -2)
    torch.testing.assert_close(h.mean(0), torch.zeros(dim), atol=1e-4, rtol=0)
    torch.testing.assert_close(h.std(0), torch.ones(dim), atol=1e-3, rtol=0)
    digits = model.codebook.search(h)[:, None] // model.codebook.powers % model.codebook.levels
    share = torch.stack([(digits == level).float().mean(0) for level in range(model.codebook.levels)])
    assert float(share.min()) > 0.25 / model.codebook.levels


@pytest.mark.parametrize("name", ["vqvae", "maskgit", "residual-vq", "fsq", "var"])
def test_a_mean_start_draws_the_mean_of_the_data(name: str) -> None:
    model = make(name, DIGITS, mean_start=True)
    rows = batch(DIGITS, 32)
    rows = rows.replaced(x=torch.full_like(rows.x, -0.8))
    with torch.no_grad():
        model.begin_stage(Context(0, 0.0, "codes", {}, torch.Generator().manual_seed(0)), lambda k: rows)
        drawn = model.decode(model.encode(rows.x))  # type: ignore[attr-defined]
    assert abs(float(drawn.mean()) + 0.8) < 0.15
