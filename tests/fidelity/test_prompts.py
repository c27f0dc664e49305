"""The prompt language against diffusers, which knows none: what it means is made there by hand.

Hidden states are computed with transformers from the tokens that each window must have, and given to
diffusers as `prompt_embeds`.
"""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.bundle import DEMO
from sdrt.pipeline import Pipeline

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from reference import open_pipeline, psnr  # noqa: E402

SETTINGS = {"sampler": "ddim", "steps": 6, "seed": 3, "guidance_scale": 4.0, "width": 64, "height": 64}
RED, BLUE, STAR = "a red circle on white", "a blue square on black", "a green star"
EMPTY = [("", 1.0)]


class Model:
    """A checkpoint in diffusers, and its bundle."""

    def __init__(self, folder, bundle):
        self.ours = Pipeline.load(bundle)
        self.theirs = open_pipeline(folder)
        self.theirs.scheduler = diffusers.DDIMScheduler.from_config(
            self.theirs.scheduler.config,
            clip_sample=False,
            set_alpha_to_one=self.ours.manifest.schedule.set_alpha_to_one,
        )
        self.xl = hasattr(self.theirs, "tokenizer_2")

    def window(self, tokenizer, segments):
        """Ids and weights of one window: begin, the tokens of each (text, weight), end, padding."""
        ids, weights = [tokenizer.bos_token_id], [1.0]
        for text, weight in segments:
            tokens = tokenizer(text, add_special_tokens=False).input_ids
            ids, weights = ids + tokens, weights + [weight] * len(tokens)
        padding = 76 - len(ids)
        assert padding >= 0
        return [*ids, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * padding], [
            *weights,
            *[1.0] * (padding + 1),
        ]

    @torch.inference_mode()
    def embeds(self, *windows, skip=None):
        """Hidden states of windows one behind another, and the pooled ones of the first.

        skip: the layer from the end that is read.
        """
        pipeline, sides, pooled = self.theirs, [], None
        parts = [(pipeline.tokenizer, pipeline.text_encoder)]
        if self.xl:
            parts.append((pipeline.tokenizer_2, pipeline.text_encoder_2))
        for tokenizer, encoder in parts:
            states = []
            for index, window in enumerate(windows):
                ids, weights = self.window(tokenizer, window)
                output = encoder(torch.tensor([ids]), output_hidden_states=True)
                own = output.hidden_states[-(skip or (2 if self.xl else 1))]
                if not self.xl:
                    own = encoder.final_layer_norm(own)
                weighted = own * torch.tensor(weights)[None, :, None]
                states.append(weighted * (own.mean() / weighted.mean()))
                if index == 0:
                    pooled = output[0]
            sides.append(torch.cat(states, dim=1))
        return torch.cat(sides, dim=-1), pooled if self.xl else None

    def picture(self, positive, negative, *, changes=None, **settings):
        """Through diffusers. changes: what the prompt is from an evaluation on."""
        settings = {**SETTINGS, **settings}

        def change(pipeline, evaluation, timestep, tensors):
            if evaluation + 1 in (changes or {}):
                states, pooled = changes[evaluation + 1]
                tensors["prompt_embeds"] = torch.cat([negative[0], states])
                if self.xl:
                    tensors["add_text_embeds"] = torch.cat([negative[1], pooled])
            return tensors

        added = (
            {"pooled_prompt_embeds": positive[1], "negative_pooled_prompt_embeds": negative[1]}
            if self.xl
            else {}
        )
        images = self.theirs(
            prompt_embeds=positive[0],
            negative_prompt_embeds=negative[0],
            **added,
            num_inference_steps=settings["steps"],
            guidance_scale=settings["guidance_scale"],
            width=settings["width"],
            height=settings["height"],
            generator=torch.Generator("cpu").manual_seed(settings["seed"]),
            callback_on_step_end=change,
            callback_on_step_end_tensor_inputs=["prompt_embeds", *(["add_text_embeds"] if self.xl else [])],
            output_type="np",
        ).images
        return np.round(images[0] * 255).astype(np.uint8)

    def generate(self, prompt, **settings):
        """Through sdrt."""
        (picture,) = self.ours.generate(prompt, **{**SETTINGS, **settings})
        return picture.pixels


@pytest.fixture(scope="module", params=["demo", "sdxl"])
def model(request, demo_checkpoint, exported):
    if request.param == "demo":
        return Model(demo_checkpoint, DEMO)
    return Model(*exported("sdxl"))


def same(ours, theirs):
    """Float32 in another order of summation, as everywhere in this folder."""
    return psnr(ours, theirs) >= 50.0


def test_a_long_prompt_is_chunks_side_by_side(model):
    letters = [*"abcdefghijklmnopqrstuvwxyz"] * 4
    first, second = " ".join(letters[:75]), " ".join([*letters[75:100], "red"])
    ours = model.generate(f"{first} {second}", negative_prompt=STAR)
    windows = [[(first, 1.0)], [(second, 1.0)]]
    assert same(ours, model.picture(model.embeds(*windows), model.embeds([(STAR, 1.0)], EMPTY)))
    cut = model.picture(model.embeds(windows[0]), model.embeds([(STAR, 1.0)]))
    assert not same(ours, cut)


def test_a_long_negative_prompt(model):
    """The prompt is followed by an empty chunk."""
    first, second = " ".join("x" * 75), "red red red"
    ours = model.generate(RED, negative_prompt=f"{first} {second}")
    negative = model.embeds([(first, 1.0)], [(second, 1.0)])
    assert same(ours, model.picture(model.embeds([(RED, 1.0)], EMPTY), negative))


def test_a_chunk_ends_after_the_last_comma(model):
    first, second = " ".join([*"x" * 60, ","]), " ".join("y" * 30)
    ours = model.generate(f"{first} {second}", negative_prompt=STAR)
    windows = [(first, 1.0)], [(second, 1.0)]
    assert same(ours, model.picture(model.embeds(*windows), model.embeds([(STAR, 1.0)], EMPTY)))


def test_break(model):
    ours = model.generate(f"{RED} BREAK {BLUE}", negative_prompt=STAR)
    windows = [(RED, 1.0)], [(BLUE, 1.0)]
    assert same(ours, model.picture(model.embeds(*windows), model.embeds([(STAR, 1.0)], EMPTY)))


def test_weights(model):
    prompt, negative = "a ((red)) (circle:1.4) on [white]", "a (green:0.6) star"
    ours = model.generate(prompt, negative_prompt=negative)
    segments = [("a ", 1.0), ("red", 1.1 * 1.1), ("circle", 1.4), ("on", 1.0), ("white", 1 / 1.1)]
    negatives = [("a ", 1.0), ("green", 0.6), ("star", 1.0)]
    assert same(ours, model.picture(model.embeds(segments), model.embeds(negatives)))
    unweighted = model.generate("a red circle on white", negative_prompt="a green star")
    assert not same(ours, unweighted)


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        # one step later than the numbers say: as in AUTOMATIC1111
        (f"[{RED}:{BLUE}:0.5]", [RED, RED, RED, RED, BLUE, BLUE]),
        (f"[{RED}:{BLUE}:1]", [RED, RED, BLUE, BLUE, BLUE, BLUE]),
        (f"[{RED}|{BLUE}]", [RED, RED, BLUE, RED, BLUE, RED]),
        (f"[[{RED}|{BLUE}]:{STAR}:3]", [RED, RED, BLUE, RED, STAR, STAR]),
    ],
)
def test_schedules(model, prompt, texts):
    ours = model.generate(prompt, negative_prompt="blurred")
    positive = [model.embeds([(text, 1.0)]) for text in texts]
    changes = dict(enumerate(positive))
    assert same(ours, model.picture(positive[0], model.embeds([("blurred", 1.0)]), changes=changes))
    assert not same(ours, model.picture(positive[0], model.embeds([("blurred", 1.0)])))


def test_schedules_count_steps_and_not_evaluations(model):
    """Heun asks the network twice in each step but the last."""
    scheduler = model.theirs.scheduler
    model.theirs.scheduler = diffusers.HeunDiscreteScheduler.from_config(scheduler.config)
    try:
        negative = model.embeds([("blurred", 1.0)])
        red, blue = model.embeds([(RED, 1.0)]), model.embeds([(BLUE, 1.0)])
        theirs = model.picture(red, negative, changes={4: blue}, steps=4)
    finally:
        model.theirs.scheduler = scheduler
    spacing = scheduler.config.timestep_spacing
    ours = model.generate(
        f"[{RED}:{BLUE}:1]", negative_prompt="blurred", sampler="heun", steps=4, spacing=spacing
    )
    assert same(ours, theirs)


@pytest.mark.parametrize(
    ("prompt", "guidance", "parts"),
    [
        (f"{RED} AND {BLUE}", 4.0, [(RED, 1.0), (BLUE, 1.0)]),
        (f"{RED} :0.7 AND {BLUE} AND {STAR}: -0.4", 4.0, [(RED, 0.7), (BLUE, 1.0), (STAR, -0.4)]),
        (f"{RED} :1.5", 4.0, [(RED, 1.5)]),
        (f"{RED} :0.25 AND {BLUE} :0.75", 1.0, [(RED, 0.25), (BLUE, 0.75)]),
        (f"{RED} AND {BLUE} :0", 4.0, [(RED, 1.0)]),
    ],
)
def test_and_composes_predictions(model, prompt, guidance, parts):
    ours = model.generate(prompt, negative_prompt="blurred", guidance_scale=guidance)
    assert same(ours, composed(model, parts, "blurred", guidance))


@torch.inference_mode()
def composed(model, parts, negative, guidance):
    """u + sum_i w_i g (c_i - u), in a loop of its own."""
    pipeline, size = model.theirs, SETTINGS["width"]
    scheduler, generator = pipeline.scheduler, torch.Generator("cpu").manual_seed(SETTINGS["seed"])
    scheduler.set_timesteps(SETTINGS["steps"])
    latents = torch.randn((1, 4, size // 8, size // 8), generator=generator) * scheduler.init_noise_sigma

    embeds = {text: model.embeds([(text, 1.0)]) for text in (negative, *(text for text, _ in parts))}

    def predict(text, t):
        states, pooled = embeds[text]
        added = (
            {"text_embeds": pooled, "time_ids": torch.tensor([[size, size, 0, 0, size, size]]).float()}
            if model.xl
            else None
        )
        return pipeline.unet(latents, t, states, added_cond_kwargs=added).sample

    for t in scheduler.timesteps:
        u = predict(negative, t)
        m = u + sum(weight * guidance * (predict(text, t) - u) for text, weight in parts)
        latents = scheduler.step(m, t, latents).prev_sample
    image = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample[0]
    pixels = (image / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()
    return np.round(pixels * 255).astype(np.uint8)


@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_clip_skip_is_diffusers(model, clip_skip, monkeypatch):
    """diffusers counts the layers that are left out, in Stable Diffusion XL from the one before the last."""
    if not model.xl:
        # diffusers 0.42 asks for the final norm where transformers had it before version 5
        encoder = model.theirs.text_encoder
        monkeypatch.setitem(encoder.__dict__, "text_model", encoder)
    theirs = model.theirs(
        RED,
        clip_skip=clip_skip - (2 if model.xl else 1),
        guidance_scale=1.0,
        num_inference_steps=SETTINGS["steps"],
        width=64,
        height=64,
        generator=torch.Generator("cpu").manual_seed(SETTINGS["seed"]),
        output_type="np",
    ).images[0]
    ours = model.generate(RED, clip_skip=clip_skip, guidance_scale=1.0)
    assert same(ours, np.round(theirs * 255).astype(np.uint8))


@pytest.mark.parametrize("clip_skip", [None, 1, 2, 3])
def test_clip_skip_is_for_the_negative_prompt_too(model, clip_skip):
    """As in AUTOMATIC1111; diffusers' `clip_skip` leaves the negative prompt as it is."""
    positive, negative = (model.embeds([(text, 1.0)], skip=clip_skip) for text in (RED, STAR))
    ours = model.generate(RED, negative_prompt=STAR, clip_skip=clip_skip)
    assert same(ours, model.picture(positive, negative))


def test_plain_prompts_are_text_as_in_diffusers(model):
    prompt, negative = "a (red:1.3) [circle] AND [a:b:0.5] \\(", "(blurred) BREAK"
    ours = model.generate(prompt, negative_prompt=negative, prompt_syntax="plain")
    theirs = model.theirs(
        prompt,
        negative_prompt=negative,
        guidance_scale=4.0,
        num_inference_steps=SETTINGS["steps"],
        width=64,
        height=64,
        generator=torch.Generator("cpu").manual_seed(SETTINGS["seed"]),
        output_type="np",
    ).images[0]
    assert same(ours, np.round(theirs * 255).astype(np.uint8))
    assert not same(ours, model.generate(prompt, negative_prompt=negative))
