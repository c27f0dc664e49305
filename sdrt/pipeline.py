"""Request to pictures: prompts, sampler table, denoising loop, VAE."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from sdrt import manifest as manifests
from sdrt import metadata
from sdrt.backends import Array, Backend, Runtime, open_runtime
from sdrt.batches import Limits, Placed, Prepared, Preparing, batches
from sdrt.bundle import DEMO, Bundle, Verify
from sdrt.choice import AUTO, choose
from sdrt.conditioning import Conditioner
from sdrt.decode import Decoder
from sdrt.deep_cache import DeepCache
from sdrt.denoise import Denoising, StepGraph
from sdrt.encode import Encoder
from sdrt.loading import Loader
from sdrt.lora import NO_LORAS, Adaptation, adapt_bundle
from sdrt.manifest import Manifest
from sdrt.noise import NoiseGenerator, slerp
from sdrt.pictures import Picture, Progress
from sdrt.request import Request, resolve_request
from sdrt.samples import Sample, initial_noise
from sdrt.saved_graphs import saved_graphs_folder
from sdrt.settings import Settings
from sdrt.shown_picture import MaskedPicture, PictureToChange
from sdrt.source_images import Placement, read_source
from sdrt.starting_picture import GivenPicture, StartingPicture
from sdrt.textual_inversion import Embedding, read_embedding
from sdrt.verified import VerifiedFiles, cache_folder
from sdrt.watching import Watched

# pictures of one batch together have at most this many pixels: on a CPU larger batches gain nothing
_BATCH_PIXELS = 512 * 512
_MAX_BATCH = 8


class Pipeline:
    """A loaded bundle. Not safe for use from several threads at once: its graphs have one set of buffers."""

    def __init__(
        self,
        bundle: Bundle,
        runtime: Runtime,
        *,
        adaptation: Adaptation = NO_LORAS,
        embeddings: Sequence[Embedding] = (),
        saved_graphs: Path | None = None,
        trust_engines: bool = False,
        progress: Callable[[str], None] = lambda stage: None,
    ) -> None:
        self.bundle = bundle
        self.runtime = runtime = runtime.for_bundle(bundle, trust_engines=trust_engines)
        self.loras = adaptation.loras
        self.embeddings = embeddings
        self._loader = Loader(
            bundle,
            runtime,
            adaptation=adaptation,
            embeddings=embeddings,
            saved_graphs=saved_graphs,
            progress=progress,
        )
        encoders = [self._loader.text_encoder(text) for text in bundle.manifest.text]
        self._conditioner = Conditioner(encoders, bundle.manifest.conditioning)
        self._unet = self._loader.load("unet")
        self._shallow: Backend | None = None
        self._loaded_encoder: Encoder | None = None
        precise = self._precise_decoder if "vae_decoder_fp32" in bundle.manifest.graphs else None
        self._decoder = Decoder(
            runtime, self._loader.load("vae_decoder"), bundle.manifest.vae, precise=precise
        )
        self._step = StepGraph(runtime, self._unet.inputs["sample"].dtype)
        self._made_with = metadata.made_with(bundle.manifest, runtime, self.loras, embeddings)

    @classmethod
    def load(
        cls,
        bundle: Path | str | None = None,
        *,
        backend: str | Runtime = AUTO,
        verify: Verify = "full",
        loras: Sequence[tuple[Path | str, float]] = (),
        embeddings: Sequence[Path | str | tuple[Path | str, str | None]] = (),
        allow_pickle: bool = False,
        cache: bool = True,
        trust_engines: bool = False,
        progress: Callable[[str], None] = lambda stage: None,
    ) -> Pipeline:
        """Open a bundle folder (None: the demo model of the package) and load its graphs.

        backend: its name, or a runtime that is open already; `auto` is what sdrt.choice says of pictures of
        the model's own size.
        verify: `full` hashes every file unless it passed before and has not changed since; `fast` looks at
        sizes and headers only. loras: files of LoRAs with their weights, added to the bundle's weights while
        they are loaded; those of an FP16 graph, or stored with --half-weights, are rounded to FP16 then.
        embeddings: files of textual inversion, each with the word that stands for it where that is not the
        file's own. allow_pickle: also .pt and .bin, of which only tensors are read.
        cache: keep a large graph as its backend made it under ~/.cache/sdrt, where the next load finds it;
        with verify `fast` and with LoRAs nothing is kept.
        trust_engines: load engines that were built elsewhere, which is running their builder's code.
        progress: is told each stage.
        Raises InputError (a LoRA or an embedding that does not fit), BundleError, UnknownNameError,
        MissingExtraError or BackendUnavailableError.
        """
        path = DEMO if bundle is None else Path(bundle)
        runtime = _open_runtime(backend, path) if isinstance(backend, str) else backend
        learned = [
            read_embedding(Path(file), token, allow_pickle=allow_pickle)
            for file, token in (one if isinstance(one, tuple) else (one, None) for one in embeddings)
        ]
        remembered = VerifiedFiles(cache_folder() / "verified.json")
        checked = Bundle.open(path, verify=verify, remembered=remembered, progress=progress)
        adaptation = NO_LORAS
        if loras:
            progress("reading LoRA")
            adaptation = adapt_bundle(checked, [(Path(file), weight) for file, weight in loras])
        return cls(
            checked,
            runtime,
            adaptation=adaptation,
            embeddings=learned,
            saved_graphs=saved_graphs_folder() if cache else None,
            trust_engines=trust_engines,
            progress=progress,
        )

    def close(self) -> None:
        """Free the graphs; the pipeline cannot be used after. Leaving a `with` block does it too."""
        for stage in (self._conditioner, self._step, self._decoder, self._loaded_encoder):
            if stage is not None:
                stage.close()
        for unet in filter(None, (self._unet, self._shallow)):
            unet.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.bundle.manifest

    def generate(self, prompt: str, **settings: Unpack[Settings]) -> list[Picture]:
        """Pictures of a prompt; `settings` are those of `request`.

        >>> Pipeline.load().generate("a large red circle on a blue background", seed=1)[0].pixels.shape
        (64, 64, 3)
        """
        return list(self.run(self.request(prompt, **settings)))

    def request(self, prompt: str, **settings: Unpack[Settings]) -> Request:
        """What `run` takes: settings with the model's defaults for what they leave out, checked.

        Raises InputError naming the nearest value that works (`sdrt.request.resolve_request`).
        """
        return resolve_request(self.manifest, prompt, **settings)

    def run(
        self, requests: Request | Sequence[Request], on_step: Callable[[Progress], None] = lambda _: None
    ) -> Iterator[Picture]:
        """Make the pictures of one request or of several; each is yielded in its turn, once it is there.

        on_step is called before the first and after every evaluation of the network; what it raises stops the
        loop, and so does closing the iterator.
        """
        for event in self.steps(requests):
            if isinstance(event, Picture):
                yield event
            else:
                on_step(event)

    def steps(self, requests: Request | Sequence[Request]) -> Iterator[Progress | Picture]:
        """As `run`, yielding every step as well; nothing is computed until the next one is asked for.

        Pictures that can be (`sdrt.batches`) are made at once, also of different requests; each is what it
        would be alone, and comes in its turn.
        """
        asked = [requests] if isinstance(requests, Request) else requests
        preparing = Preparing(
            table=lambda request: request.compile(self.manifest),
            conditions=self._conditioner.conditions,
            given=self._given,
        )
        total = sum(one.count for one in asked)
        made: dict[int, Picture] = {}
        begun = turn = 0
        for batch in batches(asked, preparing, self._limits(asked)):
            denoising = self._denoising(batch)
            at = Progress(
                first=begun,
                total=total,
                requests=tuple(one.request for one in batch),
                done=0,
                evaluations=denoising.evaluations,
                watched=Watched(
                    denoising=denoising,
                    device=self.runtime.device,
                    decoder=self._decoder,
                    manifest=self.manifest,
                    finish=[partial(_finished, one) for one in batch],
                ),
            )
            yield at
            for done in denoising:
                yield replace(at, done=done)
            for one, pixels in zip(batch, self._decoder.decode(denoising), strict=True):
                made[one.index] = self._picture(one, pixels)
            begun += len(batch)
            while turn in made:  # each batch has the first that is left, so it is its turn
                yield made.pop(turn)
                turn += 1

    def _denoising(self, batch: Sequence[Placed]) -> Denoising:
        first = batch[0].request
        return Denoising(
            self.runtime,
            self._unet,
            self._step,
            [self._sample(one.request, one.prepared) for one in batch],
            self._latent_shape(first),
            deep_cache=self._deep_cache(first),
        )

    def _picture(self, placed: Placed, pixels: NDArray[np.uint8]) -> Picture:
        request, given = placed.request, placed.prepared.given
        pixels = _finished(placed, pixels)
        texts = metadata.texts(request, self._made_with, {} if given is None else given.files, pixels)
        return Picture(pixels=pixels, request=request, texts=texts)

    def texts(self, request: Request) -> dict[str, str]:
        """What the file of a picture would say of how it is made, by keyword, but for its pixels' hash."""
        return metadata.texts(request, self._made_with, metadata.hash_files(request))

    def _limits(self, requests: Sequence[Request]) -> Limits:
        """Raises InputError for a size that there is no engine for."""
        sizes = {(one.width, one.height) for one in requests}
        of_engines = {size: self.runtime.pictures_at_once(*size) for size in sizes}
        most = {
            (width, height): min(max(_BATCH_PIXELS // (width * height), 1), _MAX_BATCH)
            if known is None
            else known
            for (width, height), known in of_engines.items()
        }
        return Limits(most=most, same_rows=any(known is not None for known in of_engines.values()))

    def _sample(self, request: Request, prepared: Prepared) -> Sample:
        """One picture to be. Noise is drawn in diffusers' order: for its start, then for what is shown."""
        noise = NoiseGenerator(request.seed)
        table, conditions, given = prepared.table, prepared.conditions, prepared.given
        draw = partial(self._first_noise, request, noise)
        if given is None or given.start is None:
            latents, held = np.float32(table.initial_scale) * draw(), None
        else:
            latents, held = given.start.begin(table, noise, draw)
        if given is not None and given.shown is not None:
            conditions = given.shown.condition(conditions, noise)
        return Sample(table=table, conditions=conditions, latents=latents, noise=noise, held=held)

    def _first_noise(self, request: Request, noise: NoiseGenerator) -> Array:
        """[C, h, w] float32."""
        shape = self._latent_shape(request)
        drawn = initial_noise(noise, shape)
        if request.variation_seed is None:
            return drawn
        return slerp(
            drawn, initial_noise(NoiseGenerator(request.variation_seed), shape), request.variation_strength
        )

    def _given(self, request: Request) -> GivenPicture | None:
        if request.init_image is None:
            return None
        place = Placement(size=(request.width, request.height), fit=request.fit, outpaint=request.outpaint)
        source = read_source(request.init_image, place, mask=request.mask, alpha=request.alpha)
        files = metadata.hash_files(request)
        vae, encoder, seen = self.manifest.vae, self._encoder, self.manifest.conditioning.picture
        if seen == "edit":
            shown = PictureToChange(encoder, source, request.image_guidance)
            return GivenPicture(source=source, files=files, shown=shown)
        return GivenPicture(
            source=source,
            files=files,
            start=StartingPicture(encoder, vae, source, holds=seen is None),
            shown=MaskedPicture(encoder, vae, source) if seen == "inpainting" else None,
        )

    def _deep_cache(self, request: Request) -> DeepCache | None:
        """What a request wants of it; its graph is loaded when the first one does."""
        if request.deep_cache == 1:
            return None
        if self._shallow is None:
            self._shallow = self._loader.load("unet_shallow")
        return DeepCache(shallow=self._shallow, interval=request.deep_cache)

    @property
    def _encoder(self) -> Encoder:
        """The VAE encoder, loaded when the first picture is given."""
        if self._loaded_encoder is None:
            self._loaded_encoder = Encoder(self.runtime, self._loader.load("vae_encoder"), self.manifest.vae)
        return self._loaded_encoder

    def _precise_decoder(self) -> Decoder:
        """The decoder in FP32, loaded when the first picture needs it."""
        return Decoder(self.runtime, self._loader.load("vae_decoder_fp32"), self.manifest.vae)

    def _latent_shape(self, request: Request) -> tuple[int, int, int]:
        vae = self.manifest.vae
        return vae.latent_channels, request.height // vae.scale_factor, request.width // vae.scale_factor


def _open_runtime(backend: str, bundle: Path) -> Runtime:
    if backend == AUTO:
        manifest = manifests.read(bundle / manifests.FILE_NAME)
        size = manifest.defaults
        backend = choose(bundle, manifest, width=size.width, height=size.height).backend
    return open_runtime(backend)


def _finished(placed: Placed, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What was decoded, with what may not change put back."""
    given = placed.prepared.given
    return pixels if given is None else given.source.paint_into(pixels, placed.request.mask_blur)
