"""Salimans et al. 2016: each technique by the property that defines it, against closed forms and plain loops."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from zeuxis.config import ImageSpec
from zeuxis.errors import UserError
from zeuxis.families import make_family
from zeuxis.families.base import Batch, Family, RenderOptions
from zeuxis.families.gan.objective import discriminator_of
from zeuxis.families.gan.techniques import (
    ClassHead,
    History,
    MinibatchDiscrimination,
    class_logit,
    feature_matching,
    smoothed_discriminator,
    sure_cross_entropy,
)
from zeuxis.families.gan.virtual_norm import Reference, VirtualBatchNorm2d
from zeuxis.randomness import generator_for
from zeuxis.steps import Stepper

SPEC = ImageSpec(height=16, width=16, channels=1)  # dcgan normalises from the second halving on
TECHNIQUES: dict[str, dict[str, Any]] = {
    "feature matching": {"objective.generator": "feature matching"},
    "minibatch discrimination": {"objective.minibatch_kernels": 3},
    "historical averaging": {"objective.historical_averaging": 0.1},
    "label smoothing": {"objective.loss": "non-saturating", "objective.label_smoothing": 0.1},
    "K + 1 classes": {"objective.loss": "non-saturating", "objective.semi_supervised": True},
    "consistency": {
        "objective.loss": "non-saturating",
        "objective.semi_supervised": True,
        "objective.consistency": 1.0,
        "objective.gamma": 0.0,
        "objective.gamma_end": 0.0,
    },
    "adaptive augmentation": {"augment.probability": 0.8, "augment.adaptive": True},
}
VIRTUAL = {"network.norm_generator": True, "network.norm_discriminator": True, "network.virtual_batch": 5}


def made(name: str, classes: int = 0, **settings: Any) -> tuple[Family, dict[str, nn.Module]]:
    family = make_family(name, SPEC, classes, settings)
    torch.manual_seed(0)
    return family, family.build()


def seen(family: Family, count: int = 6, seed: int = 0) -> Batch:
    images = torch.rand(count, *SPEC.shape, generator=generator_for("x", seed)) * 2 - 1
    labels = torch.arange(count) % max(1, family.classes)
    labelled = Batch(images.flip(0), labels) if family.semi_supervised else None
    own = labels if family.conditional else None
    held_out = Batch(images.flip(1), own) if family.watches_validation else None
    return Batch(images, own, labelled=labelled, held_out=held_out)


def step(family: Family, stepper: Stepper, index: int, batch: Batch, progress: float = 0.5) -> dict[str, torch.Tensor]:
    terms = {}
    for phase in family.stages()[0].phases:
        noise = family.noise(len(batch.images), generator_for("n", index, phase.name), "train")
        found, skipped = stepper.step(phase, batch, noise, progress=progress, average=0.5)
        assert skipped == 0
        terms |= {f"{phase.name}/{key}": value for key, value in found.items()}
    return terms


@pytest.mark.parametrize("network", ["gan/mlp/tiny", "dcgan/tiny"])
@pytest.mark.parametrize("technique", [*TECHNIQUES, "virtual batch normalisation"])
def test_every_technique_trains_and_resumes(technique: str, network: str) -> None:
    """Everything that a technique keeps is in the state: a restored training goes on to the bit."""
    if technique == "virtual batch normalisation" and network != "dcgan/tiny":
        pytest.skip("only dcgan has normalisation")
    settings = TECHNIQUES.get(technique, VIRTUAL)
    family, networks = made(network, 3, **settings)
    one = Stepper(family, networks, "float32")
    for index in range(2):
        step(family, one, index, seen(family, seed=index))
    torch.manual_seed(7)
    two = Stepper(family, family.build(), "float32")
    two.load_state({key: value.clone() for key, value in one.state().items()})
    for stepper in (one, two):
        for index in range(2, 5):
            step(family, stepper, index, seen(family, seed=index))
    first, second = one.state(), two.state()
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    before = {key: value.clone() for key, value in one.state().items()}
    for phase in family.stages()[0].phases:
        noise = family.noise(6, generator_for("n"), "train")
        noise["z"] = noise["z"] * torch.nan
        poisoned = replace(seen(family), images=torch.full((6, *SPEC.shape), torch.nan))
        assert one.step(phase, poisoned, noise, progress=0.6, average=0.5)[1] == 1
    after = one.state()
    assert all(torch.equal(before[key], after[key]) for key in before), "a skipped step changed something"


# -- feature matching --------------------------------------------------------------------------------------------------
def test_feature_matching_looks_at_means_alone() -> None:
    real = torch.randn(8, 5, generator=generator_for("f"))
    assert feature_matching(real, real.flip(0)) < 1e-12
    shift = torch.tensor([1.0, -2.0, 0.0, 0.5, 0.0])
    torch.testing.assert_close(feature_matching(real, real + shift), shift.square().sum())


def test_the_generator_minimises_the_distance_of_mean_features() -> None:
    family, networks = made("gan/mlp/tiny", **TECHNIQUES["feature matching"])
    batch, phase = seen(family), family.stages()[0].phases[1]
    noise = family.noise(6, generator_for("n"), "train")
    terms = family.losses(phase, networks, batch, noise, 0.0)
    fakes = family.render(networks, noise, None, RenderOptions())
    features = discriminator_of(networks).features
    expected = (features(batch.images).mean(0) - features(fakes).mean(0)).square().sum()
    torch.testing.assert_close(terms["loss"], expected)
    assert "feature matching" in family.batch_coupled


# -- minibatch discrimination ------------------------------------------------------------------------------------------
def test_minibatch_discrimination_is_what_loops_give() -> None:
    torch.manual_seed(1)
    layer = MinibatchDiscrimination(6, 4)
    features = torch.randn(5, 6)
    matrices = layer.project(features).detach().view(5, 4, -1)
    expected = torch.zeros(5, 4)
    for i in range(5):
        for b in range(4):
            for j in range(5):
                expected[i, b] += math.exp(-float((matrices[i, b] - matrices[j, b]).abs().sum()))
    torch.testing.assert_close(layer(features).detach(), expected)


def test_a_batch_of_copies_looks_unlike_any_other() -> None:
    torch.manual_seed(1)
    layer = MinibatchDiscrimination(6, 4)
    features = torch.randn(8, 6) * 20
    assert torch.equal(layer(features[:1].repeat(8, 1)), torch.full((8, 4), 8.0))
    assert layer(features).mean() < 3
    family, networks = made("dcgan/tiny", **TECHNIQUES["minibatch discrimination"])
    images = seen(family).images
    alone, together = (networks["discriminator"](each, None)[0] for each in (images[:1], images))
    assert alone != together and family.batch_coupled == "minibatch discrimination"


# -- historical averaging ----------------------------------------------------------------------------------------------
def test_history_is_the_mean_of_all_past_parameters() -> None:
    network = nn.Linear(2, 2)
    history, past = History({"generator": network}), []
    assert history.penalty("generator", network) == 0
    for index in range(4):
        with torch.no_grad():
            network.weight.add_(index)
        history.penalty("generator", network)
        history.update("generator", network)
        past.append(network.weight.detach().clone())
    mean = torch.stack(past).mean(0)
    penalty = history.penalty("generator", network)
    torch.testing.assert_close(penalty, (network.weight - mean).square().sum())
    penalty.backward()
    torch.testing.assert_close(network.weight.grad, 2 * (network.weight.detach() - mean))


def test_historical_averaging_ends_an_orbit() -> None:
    """min over x, max over y of x y: simultaneous gradient steps circle outwards, with historical averaging
    inwards (the paper's section 3.3)."""
    radii = {}
    for weight in (0.0, 1.0):
        x, y = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        history = History({"x": x, "y": y})
        nn.init.ones_(x.weight), nn.init.ones_(y.weight)
        for _ in range(250):
            product = x.weight * y.weight
            loss_x = product + weight * history.penalty("x", x)
            loss_y = -product + weight * history.penalty("y", y)
            (slope_x,), (slope_y,) = (
                torch.autograd.grad(loss_x, x.weight, retain_graph=True), torch.autograd.grad(loss_y, y.weight),
            )  # fmt: skip
            with torch.no_grad():
                x.weight -= 0.05 * slope_x
                y.weight -= 0.05 * slope_y
            history.update("x", x), history.update("y", y)
        radii[weight] = math.hypot(x.weight.item(), y.weight.item())
    assert radii[1.0] < 0.9 * math.sqrt(2) < math.sqrt(2) < 0.8 * radii[0.0], radii


# -- one-sided label smoothing -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_the_best_discriminator_is_no_surer_than_the_smoothed_label(smoothing: float) -> None:
    """At D = (1 - s) p / (p + q) the expected loss over data density p and model density q has no slope."""
    for p, q in ((1.0, 1.0), (3.0, 1.0), (1.0, 0.001)):
        best = (1 - smoothing) * p / (p + q)
        logit = torch.tensor(math.log(best / (1 - best)), dtype=torch.float64, requires_grad=True)
        far = torch.tensor(-60.0, dtype=torch.float64)
        of_real = smoothed_discriminator(logit, far, smoothing)
        # A real picture far below zero costs (1 - s) 60: what is left is the generated one's part.
        of_fake = smoothed_discriminator(far, logit, smoothing) - (1 - smoothing) * 60
        (slope,) = torch.autograd.grad(p * of_real + q * of_fake, logit)
        assert abs(slope) < 1e-9


def test_smoothing_needs_a_probability() -> None:
    for loss in ("relativistic", "hinge", "wasserstein", "least-squares"):
        with pytest.raises(UserError, match=r"label_smoothing.*non-saturating"):
            make_family("gan/mlp/tiny", SPEC, 0, {"objective.loss": loss, "objective.label_smoothing": 0.1})


# -- virtual batch normalisation ---------------------------------------------------------------------------------------
def test_virtual_batch_normalisation_mixes_the_statistics_of_reference_and_picture() -> None:
    layer = VirtualBatchNorm2d(3, 4)
    torch.manual_seed(2)
    reference, picture = torch.randn(4, 3, 5, 5) * 2 + 1, torch.randn(1, 3, 5, 5)
    out = layer(torch.cat([reference, picture]))
    together = torch.cat([reference, picture])  # all of one size, so the mix is the statistics of both together
    mean = together.mean(dim=(0, 2, 3), keepdim=True)
    deviation = together.var(dim=(0, 2, 3), keepdim=True, unbiased=False).add(1e-5).sqrt()
    torch.testing.assert_close(out[4:], (picture - mean) / deviation)
    torch.testing.assert_close(out[:4].mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)


def test_with_virtual_batch_normalisation_no_picture_influences_another() -> None:
    family, networks = made("dcgan/tiny", 3, **VIRTUAL)
    assert family.batch_coupled == ""
    batch = seen(family)
    discriminator_of(networks).remember(batch.images.flip(0) * 0.5)
    noise = family.noise(6, generator_for("z"), "sample")
    together = family.render(networks, noise, batch.labels, RenderOptions())
    judged = networks["discriminator"](batch.images, batch.labels)
    for index in range(6):
        alone = family.render(networks, {"z": noise["z"][index : index + 1]}, batch.labels[index : index + 1],
                              RenderOptions())  # fmt: skip
        torch.testing.assert_close(alone[0], together[index], atol=1e-5, rtol=1e-4)
        one = networks["discriminator"](batch.images[index : index + 1], batch.labels[index : index + 1])
        torch.testing.assert_close(one[0], judged[index], atol=1e-5, rtol=1e-4)
    plain, others = made("dcgan/tiny", 3, **{**VIRTUAL, "network.virtual_batch": 0})
    assert plain.batch_coupled == "batch normalisation"
    judged, one = (others["discriminator"](batch.images[:n], batch.labels[:n])[0] for n in (6, 1))
    assert abs(judged - one) > 1e-3 * abs(judged)


def test_the_reference_is_the_first_that_it_is_given_and_stays() -> None:
    reference = Reference(4, (2,))
    first = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    reference.fill(first)
    reference.fill(first * 10)
    assert torch.equal(reference.before(first[:1]), torch.cat([first, first[:1], first[:1]]))
    _, networks = made("dcgan/tiny", **VIRTUAL)
    kept = {key for key in networks["generator"].state_dict() if key.startswith("reference")}
    assert kept, "the reference of the generator goes into the model folder with its weights"


# -- K + 1 classes -----------------------------------------------------------------------------------------------------
def test_real_is_any_of_the_classes() -> None:
    """D = Z / (Z + 1) is 1 - p(K + 1) of a softmax whose last logit is 0 (section 5)."""
    logits = torch.randn(5, 3, generator=generator_for("k"))
    p = torch.softmax(torch.cat([logits, torch.zeros(5, 1)], dim=1), dim=1)
    torch.testing.assert_close(torch.sigmoid(class_logit(logits)), 1 - p[:, 3])
    head = ClassHead(4, 3)
    features = torch.randn(5, 4, generator=generator_for("h"))
    torch.testing.assert_close(head(features, None), class_logit(head.classes(features)))


def test_semi_supervised_learns_the_classes_and_is_asked_for_them() -> None:
    family, networks = made("gan/mlp/tiny", 2, **TECHNIQUES["K + 1 classes"], **{"training.learning_rate_end": 1.0})
    assert family.capabilities == {"classify"} and not family.conditional
    assert family.model_parts == ("generator", "discriminator")
    stepper = Stepper(family, networks, "float32")
    pictures = torch.cat([torch.full((4, *SPEC.shape), 0.8), torch.full((4, *SPEC.shape), -0.8)])
    labels = torch.tensor([0] * 4 + [1] * 4)
    batch = Batch(pictures, None, labelled=Batch(pictures, labels))
    for index in range(40):
        terms = step(family, stepper, index, batch)
    assert terms["discriminator/labelled accuracy"] == 1
    logits = family.classify(stepper.averaged, pictures)
    assert logits.shape == (8, 2) and torch.equal(logits.argmax(1), labels)
    with pytest.raises(NotImplementedError, match="gan"):
        plain, others = made("gan/mlp/tiny", 2)
        plain.classify(others, pictures)


def test_only_sure_classes_are_asked_of_changed_pictures() -> None:
    probabilities = torch.tensor([[0.96, 0.03, 0.01], [0.94, 0.05, 0.01], [0.01, 0.02, 0.97]])
    plain, changed = probabilities.log().requires_grad_(), torch.randn(3, 3, generator=generator_for("c"))
    changed.requires_grad_()
    losses, sure = sure_cross_entropy(plain, changed)
    assert sure.tolist() == [1, 0, 1]
    expected = -changed.log_softmax(1)[torch.arange(3), torch.tensor([0, 0, 2])] * sure
    torch.testing.assert_close(losses, expected)
    of_plain, of_changed = torch.autograd.grad(losses.sum(), (plain, changed), allow_unused=True)
    assert of_plain is None and of_changed[0].any() and not of_changed[1].any()


def test_consistency_changes_labelled_pictures_and_adds_the_unlabelled_ones() -> None:
    terms = []
    for weight in (1.0, 3.0):
        family, networks = made("gan/mlp/tiny", 2, **TECHNIQUES["consistency"] | {"objective.consistency": weight})
        networks["discriminator"].head.linear.weight.data.mul_(100)  # sure of most
        batch, noise = seen(family), family.noise(6, generator_for("n"), "train")
        assert (family.changed(batch.images, noise["change unlabelled"]) != batch.images).any()
        found = family.losses(family.stages()[0].phases[0], networks, batch, noise, 0.5)
        labelled = family.classify(networks, family.changed(batch.labelled.images, noise["change labelled"]))
        own = nn.functional.cross_entropy(labelled, batch.labelled.labels, reduction="none")
        assert found["sure"].any()
        terms.append((found["supervised"] - own) / weight)
        torch.testing.assert_close(found["loss"], found["adversarial"] + found["supervised"])
    torch.testing.assert_close(terms[0], terms[1], rtol=1e-3, atol=1e-3)
    assert terms[0].any()


def test_semi_supervised_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(UserError, match=r"consistency.*--semi-supervised"):
        make_family("gan/mlp/tiny", SPEC, 2, {"objective.consistency": 1.0})
    with pytest.raises(UserError, match=r"semi_supervised.*non-saturating"):
        make_family("gan/mlp/tiny", SPEC, 2, {"objective.loss": "hinge", "objective.semi_supervised": True})
    both = {**TECHNIQUES["K + 1 classes"], "objective.minibatch_kernels": 4}
    with pytest.raises(UserError, match="minibatch_kernels"):
        make_family("gan/mlp/tiny", SPEC, 2, both)
    with pytest.raises(UserError, match="--semi-supervised"):
        make_family("gan/mlp/tiny", SPEC, 0, TECHNIQUES["K + 1 classes"]).build()
