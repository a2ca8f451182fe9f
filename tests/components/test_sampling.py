"""Samplers and guidance, on networks whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from latsem.components.paths import DiffusionPath, FlowPath, Path
from latsem.components.predictor import Instants, Predictor
from latsem.components.registry import available, create
from latsem.components.samplers.chain import ChainStep, spaced_chain
from latsem.components.samplers.forms import diffusion
from latsem.components.samplers.sampler import Sampler
from latsem.components.samplers.settings import SamplerSettings
from latsem.components.streams import Streams, variance_of
from latsem.components.torchvision_import import ensure_torchvision

NAMES = ("image", "semantic")
FLOW = FlowPath(dict.fromkeys(NAMES, 0.0))
AHEAD = FlowPath({"image": 0.0, "semantic": 0.5})
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
CHAIN = DiffusionPath(NAMES, BETAS)

ODES = ("euler", "heun", "dopri5")
SDES = ("sde", "sde_heun")
FORMS = ("sigma", "linear", "constant", "sbdm", "decreasing", "increasing_decreasing")


def shared_clock(instant: float) -> Instants:
    return {"image": instant, "semantic": instant}


def no_noise() -> Streams:
    raise AssertionError("this sampler draws no noise")


def sampler_of(name: str, path: Path | None = None, **settings: object) -> Sampler:
    """Build a sampler; its settings say which path it walks."""
    kind = available("sampler")[name].settings
    assert issubclass(kind, SamplerSettings)
    sampler: Sampler = create("sampler", name, path=path or (FLOW if kind.path == "flow" else CHAIN), **settings)
    return sampler


def few_steps(name: str) -> dict[str, object]:
    return {"steps": 4} if "steps" in available("sampler")[name].settings.model_fields else {}


class FreshNoise:
    """Noise like a start, drawn from a seed; counts the draws."""

    def __init__(self, start: Streams, seed: int = 0) -> None:
        self.start, self.calls = start, 0
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self) -> Streams:
        self.calls += 1
        return {key: torch.randn(x.shape, generator=self.generator).to(x) for key, x in self.start.items()}


def step_of(instants: Instants) -> int:
    """Return the step of the diffusion that a model is asked at."""
    return int(CHAIN.step(torch.tensor(instants["image"], dtype=torch.float64)))


# --- What holds for every sampler


@pytest.mark.parametrize(
    ("name", "path"),
    [(name, None) for name in available("sampler")] + [(name, AHEAD) for name in (*ODES, *SDES)],
    ids=lambda value: "ahead" if value is AHEAD else value,
)
def test_sampler_contract(name: str, path: Path | None) -> None:
    """Shapes and numbers stay what they are, the noise decides everything, times are the path's, progress is told."""
    start = {"image": torch.randn(2, 3, 2, 2), "semantic": torch.randn(2, 1, 2, 2)}
    told: list[tuple[int, int]] = []
    asked: list[Instants] = []

    def predict(streams: Streams, instants: Instants) -> Streams:
        asked.append(instants)
        return {key: instants[key] - x for key, x in streams.items()}

    def run(start: Streams, fresh: Callable[[], Streams]) -> Streams:
        sampler = sampler_of(name, path, **few_steps(name))
        assert isinstance(sampler, Sampler)
        return sampler.sample(predict, start, fresh, lambda done, total: told.append((done, total)))

    untouched = {key: x.clone() for key, x in start.items()}
    end = run(start, FreshNoise(start))
    assert {key: (x.shape, x.dtype) for key, x in end.items()} == {key: (x.shape, x.dtype) for key, x in start.items()}
    assert all(bool(x.isfinite().all()) for x in end.values())
    assert all(torch.equal(start[key], x) for key, x in untouched.items())
    dones, totals = [done for done, _ in told], {total for _, total in told}
    assert dones == list(range(1, told[-1][1] + 1)) and totals == {dones[-1]}
    assert all(0 <= time <= 1 for instants in asked for time in instants.values())
    lead = 0.5 if path else 0.0
    assert all(i["semantic"] == pytest.approx(min(1, i["image"] + lead)) for i in asked if 0 < i["image"] < 1)
    again = run(start, FreshNoise(start))
    assert all(torch.equal(end[key], again[key]) for key in end)


@pytest.mark.parametrize(
    ("name", "settings", "draws"),
    [
        *((name, {}, 0) for name in ODES),
        *((name, {"steps": 9}, 8) for name in SDES),
        *((name, {"steps": 9, "last": "none"}, 9) for name in SDES),
        # No noise at t = 0 in this form.
        *((name, {"steps": 9, "form": "increasing_decreasing"}, 7) for name in SDES),
        ("ddpm", {"steps": 9}, 8),
        ("ddim", {"steps": 9}, 0),
        ("ddim", {"steps": 9, "eta": 0.5}, 8),
    ],
)
def test_noise_is_drawn_once_a_noisy_step(name: str, settings: dict[str, object], draws: int) -> None:
    start = {key: torch.ones(1, 1, 1, 1, dtype=torch.float64) for key in NAMES}
    fresh = FreshNoise(start)
    sampler_of(name, **settings).sample(lambda streams, instants: streams, start, fresh)
    assert fresh.calls == draws


# --- ODE


@pytest.mark.parametrize("name", ODES)
def test_a_constant_velocity_is_followed_exactly_in_every_streams_own_time(name: str) -> None:
    start = {"image": torch.randn(2, 3, 2, 2), "semantic": torch.randn(2, 1, 2, 2)}
    rates = {"image": 2.0, "semantic": -3.0}

    def velocity(streams: Streams, instants: Instants) -> Streams:
        return {key: torch.full_like(x, rates[key]) for key, x in streams.items()}

    end = sampler_of(name, AHEAD, **few_steps(name)).sample(velocity, start, no_noise)
    for key, value in start.items():
        assert torch.allclose(end[key], value + rates[key], atol=1e-5)


@pytest.mark.parametrize("name", ["euler", "heun", *SDES])
@pytest.mark.parametrize("steps", [2, 7, 13])
def test_no_velocity_is_used_at_data(name: str, steps: int) -> None:
    """An x-prediction is divided by 1 - t: a stream that arrives, early or last, takes the slope where it came from."""
    start = {"image": torch.randn(2, 3, 2, 2), "semantic": torch.randn(2, 1, 2, 2)}

    def velocity(streams: Streams, instants: Instants) -> Streams:
        return {key: x / (1 - instants[key]) if instants[key] < 1 else x * math.nan for key, x in streams.items()}

    end = sampler_of(name, AHEAD, steps=steps).sample(velocity, start, FreshNoise(start))
    assert all(bool(x.isfinite().all()) for x in end.values())


def solve(name: str, path: FlowPath = FLOW, **settings: object) -> dict[str, float]:
    """Return the errors of dx/dt = -2 t x from x(0) = 1, in every stream's own time; the answer at 1 is exp(-1)."""

    def velocity(streams: Streams, instants: Instants) -> Streams:
        return {key: -2 * instants[key] * x for key, x in streams.items()}

    start = {key: torch.ones(1, 1, 1, 1, dtype=torch.float64) for key in NAMES}
    end = sampler_of(name, path, **settings).sample(velocity, start, no_noise)
    return {key: abs(float(x) - math.exp(-1)) for key, x in end.items()}


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_convergence(name: str, order: int) -> None:
    coarse, fine = (solve(name, steps=steps)["image"] for steps in (40, 80))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("path", [FLOW, AHEAD], ids=["together", "with a lead"])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_the_adaptive_solver_keeps_its_tolerance(tolerance: float, path: FlowPath) -> None:
    """Also over the kinks where a stream with a lead arrives and one without starts."""
    assert all(error < tolerance for error in solve("dopri5", path, rtol=tolerance, atol=tolerance).values())


def test_the_adaptive_solver_asks_for_no_time_beyond_data() -> None:
    """Left alone, torchdiffeq steps over the end and interpolates back."""
    asked: list[float] = []

    def velocity(streams: Streams, instants: Instants) -> Streams:
        asked.append(instants["image"])
        return {key: 1e-6 * x for key, x in streams.items()}

    sampler_of("dopri5").sample(velocity, {key: torch.ones(1, 1, 1, 1) for key in NAMES}, no_noise)
    assert max(asked) == pytest.approx(1) and max(asked) <= 1 and len(asked) < 30


# --- SDE


def pull(streams: Streams, instants: Instants) -> Streams:
    """A velocity that is no line in x or t."""
    return {key: torch.sin(2 * x) + math.cos(3 * instants[key]) for key, x in streams.items()}


def sit_diffusion(form: str, norm: float, t: float, step: float) -> float:
    """The forms of SiT's `path.py`; its SBDM at t = 0, where it returns no number, as we do."""
    return {
        "sigma": norm * (1 - t),
        "linear": norm * (1 - t),
        "constant": norm,
        "sbdm": norm * ((1 - t) ** 2 / t + (1 - t) if t > 0 else 1 / step),
        "decreasing": 0.25 * (norm * math.cos(math.pi * t) + 1) ** 2,
        "increasing_decreasing": norm * math.sin(math.pi * t) ** 2,
    }[form]


def sit_sample(x: Tensor, noises: Iterator[Tensor], form: str, norm: float, steps: int, *, heun: bool) -> Tensor:
    """The loops of SiT's `integrators.py` and the last step `Mean` of size 0.04 from its `transport.py`."""
    grid = torch.linspace(0, 0.96, steps, dtype=torch.float64).tolist()
    dt = grid[1] - grid[0]

    def drift(x: Tensor, t: float) -> Tensor:
        v = pull({"image": x}, {"image": t})["image"]
        score = (t * v - x) / ((1 - t) ** 2 + t * (1 - t))
        return v + sit_diffusion(form, norm, t, dt) * score

    for t in grid[:-1]:
        spread = math.sqrt(2 * sit_diffusion(form, norm, t, dt))
        kick = spread * next(noises) * math.sqrt(dt) if spread > 0 else 0.0
        if heun:
            x = x + kick
            slope = drift(x, t)
            x = x + dt / 2 * (slope + drift(x + dt * slope, t + dt))
        else:
            x = x + drift(x, t) * dt + kick
    return x + 0.04 * drift(x, grid[-1])


@pytest.mark.parametrize("steps", [2, 20, 50])
@pytest.mark.parametrize("norm", [1.0, 0.5])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SDES)
def test_sde_is_the_published_integrator(name: str, form: str, norm: float, steps: int) -> None:
    """Also in few steps, whose length is more than what is left to data where Heun's second slope is taken."""
    start = {"image": torch.randn(3, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))}
    sampler = sampler_of(name, FlowPath({"image": 0.0}), form=form, norm=norm, steps=steps)
    ours = sampler.sample(pull, start, FreshNoise(start))["image"]
    same = FreshNoise(start)
    theirs = sit_sample(start["image"], iter(lambda: same()["image"], None), form, norm, steps, heun=name == "sde_heun")
    assert float((ours - theirs).abs().max()) < 1e-10 * max(1.0, float(theirs.abs().max()))


def test_tweedies_last_step_is_the_odes_on_straight_lines() -> None:
    """As SiT writes it: x / alpha + sigma^2 / alpha * score, with alpha = t and sigma = 1 - t."""
    start = {key: torch.randn(4, 1, 1, 1, dtype=torch.float64) for key in NAMES}
    calls: list[tuple[Streams, Streams]] = []

    def predict(streams: Streams, instants: Instants) -> Streams:
        calls.append((streams, pull(streams, instants)))
        return calls[-1][1]

    ends = [
        sampler_of("sde", last=last, last_step_size=0.1, steps=5).sample(predict, start, FreshNoise(start))
        for last in ("tweedie", "euler")
    ]
    before, velocity = calls[4]
    for key in NAMES:
        x, v, t = before[key], velocity[key], 0.9
        assert torch.allclose(ends[0][key], x / t + (1 - t) ** 2 / t * (t * v - x) / (1 - t), rtol=0, atol=1e-12)
        assert torch.equal(ends[0][key], ends[1][key])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SDES)
def test_a_stream_whose_time_stands_still_is_left_alone(name: str, form: str) -> None:
    start = {key: torch.randn(4, 1, 1, 1, dtype=torch.float64) for key in NAMES}
    calls: list[tuple[Instants, Streams]] = []

    def predict(streams: Streams, instants: Instants) -> Streams:
        calls.append((instants, streams))
        return pull(streams, instants)

    fresh = FreshNoise(start)
    end = sampler_of(name, AHEAD, form=form, steps=13, last="none").sample(predict, start, fresh)
    waiting = [streams["image"] for instants, streams in calls if instants["image"] == 0]
    arrived = [streams["semantic"] for instants, streams in calls if instants["semantic"] == 1]
    assert len(waiting) >= 5 and len(arrived) >= 4
    assert all(torch.equal(x, start["image"]) for x in waiting[:-1])
    assert all(torch.equal(x, end["semantic"]) for x in arrived)
    assert all(bool(x.isfinite().all()) for x in end.values())


# --- Gaussian data, for which the exact prediction is known and every sampler must reach mean and spread

DATA = {"image": (0.5, 0.5), "semantic": (-1.0, 0.8)}
SAMPLES = 20_000
FINE = 100


@pytest.fixture(scope="module")
def noises() -> list[Streams]:
    """Draw noise for the longest walk, once: drawing takes longer than walking."""
    start = {key: torch.empty(SAMPLES, 1, 1, 1, dtype=torch.float64) for key in NAMES}
    fresh = FreshNoise(start, seed=1)
    return [fresh() for _ in range(FINE + 1)]


def gaussian_velocity(streams: Streams, instants: Instants) -> Streams:
    """E[x - eps | x_t] for x ~ N(mean, std^2)."""
    velocity = {}
    for key, x in streams.items():
        (mean, std), t = DATA[key], instants[key]
        slope = (t * std**2 - (1 - t)) / (t**2 * std**2 + (1 - t) ** 2)
        velocity[key] = mean + slope * (x - t * mean)
    return velocity


def gaussian_eps(streams: Streams, instants: Instants) -> Streams:
    """E[eps | x_s]."""
    kept = float(CHAIN.alphas_bar[step_of(instants)])
    return {
        key: math.sqrt(1 - kept) * (x - math.sqrt(kept) * DATA[key][0]) / variance_at(key, kept)
        for key, x in streams.items()
    }


def variance_at(key: str, kept: float) -> float:
    return kept * DATA[key][1] ** 2 + 1 - kept


def assert_reaches_data(
    sampler: Sampler, predict: Predictor, noises: Iterable[Streams], bias: dict[str, float]
) -> None:
    """Within five standard errors of 20,000 samples, and the bias that the steps are known to have."""
    draws = iter(noises)
    end = sampler.sample(predict, next(draws), lambda: next(draws))
    for key, (mean, std) in DATA.items():
        assert abs(float(end[key].mean()) - mean) < 5 * std / math.sqrt(SAMPLES) + bias[key]
        assert abs(float(end[key].std()) - std) < 5 * std / math.sqrt(2 * SAMPLES) + bias[key]


@pytest.mark.parametrize("path", [FLOW, AHEAD], ids=["together", "with a lead"])
@pytest.mark.parametrize(
    ("name", "settings", "bias"),
    [("euler", {"steps": FINE}, 1 / FINE), ("heun", {"steps": 40}, 1 / 40**2), ("dopri5", {}, 1e-3)],
)
def test_odes_reach_the_data(
    name: str, settings: dict[str, object], bias: float, path: FlowPath, noises: list[Streams]
) -> None:
    """The bias is of the order of the solver, `dopri5`'s its tolerance."""
    assert_reaches_data(sampler_of(name, path, **settings), gaussian_velocity, noises, dict.fromkeys(NAMES, bias))


@pytest.mark.parametrize("last", ["mean", "euler", "tweedie", "none"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SDES)
def test_sdes_reach_the_data_with_any_noise(name: str, form: str, last: str, noises: list[Streams]) -> None:
    """The bias is one step h, and what a last step without noise leaves out: 2 D h of the variance, 2 D h / s of s.

    Half of it is the noise that is missing, half the drift that expects it.
    """
    step = 1 / FINE
    left_out = 2 * diffusion(form, 1.0, 1 - step, step) * step
    bias = {key: step + left_out / std for key, (_, std) in DATA.items()}
    sampler = sampler_of(name, form=form, last=last, steps=FINE, last_step_size=step)
    assert_reaches_data(sampler, gaussian_velocity, noises, bias)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SDES)
def test_sdes_reach_the_data_with_a_lead(name: str, form: str, noises: list[Streams]) -> None:
    """A clock's step is half as long again in the streams' times."""
    step = 1.5 / FINE
    bias = {key: step + 2 * diffusion(form, 1.0, 1 - step, step) * step / std for key, (_, std) in DATA.items()}
    sampler = sampler_of(name, AHEAD, form=form, steps=FINE, last_step_size=1 / FINE)
    assert_reaches_data(sampler, gaussian_velocity, noises, bias)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ddpm", {"steps": 1000, "variance": "small"}),
        ("ddpm", {"steps": 1000, "variance": "large"}),
        ("ddim", {"steps": 1000}),
        ("ddim", {"steps": 1000, "eta": 1.0}),
    ],
)
def test_diffusions_reach_the_data(name: str, settings: dict[str, object]) -> None:
    """In all steps, of which the noisiest adds a variance of 0.02: half of it is allowed as a bias."""
    fresh = FreshNoise({key: torch.empty(SAMPLES, 1, 1, 1, dtype=torch.float64) for key in NAMES}, seed=1)
    bias = dict.fromkeys(NAMES, 0.01)
    assert_reaches_data(sampler_of(name, **settings), gaussian_eps, iter(fresh, None), bias)


def true_place(step: ChainStep, key: str) -> float:
    """Where the log-variance of the exact denoising step lies between its bounds, -1 to 1; any where there is none."""
    if step.reaches_data:
        return 0.0
    exact = step.beta * variance_at(key, step.kept_next) / variance_at(key, step.kept)
    low, high = math.log(step.posterior_variance), math.log(step.beta)
    return 2 * (math.log(exact) - low) / (high - low) - 1


@pytest.mark.parametrize("steps", [5, 50])
def test_with_the_exact_variance_few_steps_are_enough(steps: int, noises: list[Streams]) -> None:
    """A denoising step of Gaussian data is Gaussian: with its own variance the chain has no bias, however short.

    What is left out is the variance of the path's first step, 1e-4, and what its last leaves of the data, 4e-5.
    """
    chain = {step.index: step for step in spaced_chain(CHAIN, steps)}

    def predict(streams: Streams, instants: Instants) -> Streams:
        step = chain[step_of(instants)]
        places = {variance_of(key): torch.full_like(x, true_place(step, key)) for key, x in streams.items()}
        return gaussian_eps(streams, instants) | places

    bias = dict.fromkeys(NAMES, 2e-4)
    assert_reaches_data(sampler_of("ddpm", steps=steps), predict, noises, bias)
    with pytest.raises(AssertionError):
        assert_reaches_data(sampler_of("ddpm", steps=steps, variance="large"), predict, noises, bias)


# --- The same chain as in diffusers


def walk(sampler: Sampler, start: Tensor, draws: list[Tensor], *, learned: bool = False) -> list[Tensor]:
    """Return the noisy streams that a sampler asks a model about, and where it ends."""
    seen: list[Tensor] = []
    fresh = iter(draws)

    def predict(streams: Streams, instants: Instants) -> Streams:
        seen.append(streams["image"])
        eps, place = outputs(streams["image"], step_of(instants)).chunk(2, dim=1)
        return {"image": eps, **({variance_of("image"): place} if learned else {})}

    end = sampler.sample(predict, {"image": start}, lambda: {"image": next(fresh)})
    return [*seen, end["image"]]


def outputs(x: Tensor, step: int) -> Tensor:
    """A model of noise and variance, each 3 channels, that knows its step."""
    return torch.cat([torch.tanh(x) + 0.1 * math.cos(step), torch.sin(x + step)], dim=1)


def drawn(steps: int) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(2)
    start, *draws = torch.randn(steps + 1, 2, 3, 2, 2, generator=generator, dtype=torch.float64)
    return start, draws


def assert_same_walk(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert len(ours) == len(theirs)
    assert max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) < 1e-5


ONE = DiffusionPath(("image",), BETAS)


@pytest.mark.parametrize("steps", [1000, 250, 7])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
def test_ddpm_is_diffusers_step_for_step(variance: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_torchvision()
    from diffusers import DDPMScheduler
    from diffusers.schedulers import scheduling_ddpm

    scheduler = DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        variance_type=variance,
        clip_sample=False,
        timestep_spacing="linspace",
    )
    assert torch.allclose(scheduler.alphas_cumprod.double(), CHAIN.alphas_bar, rtol=1e-4)
    scheduler.alphas_cumprod = CHAIN.alphas_bar  # theirs are rounded to float32
    scheduler.set_timesteps(steps)
    start, draws = drawn(steps)
    fresh = iter(draws)
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *shape, **options: next(fresh))
    theirs, learned = [start], variance == "learned_range"
    for step in scheduler.timesteps:
        both = outputs(theirs[-1], int(step))
        theirs.append(scheduler.step(both if learned else both[:, :3], step, theirs[-1]).prev_sample)

    fixed = {"fixed_small": "small", "fixed_large": "large", "learned_range": "auto"}[variance]
    sampler = sampler_of("ddpm", ONE, steps=steps, variance=fixed)
    assert_same_walk(walk(sampler, start, draws, learned=learned), theirs)


@pytest.mark.parametrize("steps", [1000, 50, 7])
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_ddim_is_diffusers_step_for_step(eta: float, steps: int) -> None:
    """On the respaced chain as one of its own: with `linspace` their step leads to one that is not their next.

    They take `step - 1000 // steps` for the next of linspace(0, 999, steps), which it is for all steps alone.
    """
    ensure_torchvision()
    from diffusers import DDIMScheduler

    chosen = torch.linspace(0, 999, steps, dtype=torch.float64).round().long()
    scheduler = DDIMScheduler(
        num_train_timesteps=steps, set_alpha_to_one=True, clip_sample=False, timestep_spacing="linspace"
    )
    scheduler.alphas_cumprod = CHAIN.alphas_bar[chosen]
    scheduler.set_timesteps(steps)
    start, draws = drawn(steps)
    theirs = [start]
    for step, fresh in zip(scheduler.timesteps, draws, strict=True):
        eps = outputs(theirs[-1], int(chosen[step]))[:, :3]
        theirs.append(scheduler.step(eps, step, theirs[-1], eta=eta, variance_noise=fresh).prev_sample)
    assert_same_walk(walk(sampler_of("ddim", ONE, steps=steps, eta=eta), start, draws), theirs)


@pytest.mark.parametrize("steps", [2, 7, 27, 250, 999, 1000])
def test_a_spaced_chain_has_the_levels_of_the_path(steps: int) -> None:
    chain = spaced_chain(CHAIN, steps)
    indices = [step.index for step in chain]
    assert len(chain) == steps and indices[0] == 999 and indices[-1] == 0
    strides = [before - after for before, after in pairwise(indices)]
    assert max(strides) - min(strides) <= 1
    assert all(step.kept == float(CHAIN.alphas_bar[step.index]) for step in chain)
    assert all(now.kept_next == then.kept for now, then in pairwise(chain)) and chain[-1].kept_next == 1
    assert math.prod(1 - step.beta for step in chain) == pytest.approx(float(CHAIN.alphas_bar[-1]))


def test_the_steps_of_a_chain_are_those_of_dits_respacing() -> None:
    """`space_timesteps` of its `respace.py` for one section; 27 and 163 steps are among those with halves."""
    for steps in (*range(2, 200), 250, 500, 999, 1000):
        place, wanted = 0.0, []
        for _ in range(steps):
            wanted.append(round(place))
            place += 999 / (steps - 1)
        assert [step.index for step in spaced_chain(CHAIN, steps)][::-1] == wanted


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_more_steps_than_the_process_has_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="sampler.steps is 1001, but the process has 1000 steps"):
        sampler_of(name, steps=1001)


# --- Guidance
