"""Save and load models: safetensors for the numbers, JSON for the rest, never pickle.

A bundle is a folder: `manifest.json`, `items.json` (the outside ids in the order of the item
indices) and one `ROLE.safetensors` for each scorer. The manifest carries the sha256 of every
other file; loading refuses a folder that does not match. A graph beside them (`models.graphs`) only
saves time, so a bundle loads without it.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from momentary import __version__
from momentary.data.vocabulary import Vocabulary
from momentary.errors import ArtifactError, SettingsError
from momentary.models.protocol import Arrays, Scorer

if TYPE_CHECKING:
    from momentary.learn.graph import Graph
    from momentary.models.learned_likeness import LearnedLikeness
    from momentary.models.placement import Placement

_PLACEMENT = "placement.safetensors"
_GRAPH = "graph.safetensors"
_LIKENESS = "manifest.json"
_TEACH = "learn it again: momentary train-likeness"

FORMAT = 1
"""Raised when old bundles can no longer be read."""

PROD = "prod"
"""The alias of the version that answers."""
PREVIOUS = "previous"
"""The alias of the version that answered before; it follows `prod`."""

KINDS = {
    "popularity": ("momentary.models.popularity", "Popularity", "PopularityConfig"),
    "personal_popularity": (
        "momentary.models.popularity",
        "PersonalPopularity",
        "PersonalPopularityConfig",
    ),
    "item_knn": ("momentary.models.item_knn", "ItemKNN", "ItemKNNConfig"),
    "sequential_rules": (
        "momentary.models.sequential_rules",
        "SequentialRules",
        "SequentialRulesConfig",
    ),
    "slist": ("momentary.models.slist", "SLIST", "SLISTConfig"),
    "vsknn": ("momentary.models.session_knn", "VSKNN", "VSKNNConfig"),
    "vstan": ("momentary.models.session_knn", "VSTAN", "VSTANConfig"),
    "content_knn": ("momentary.models.content_knn", "ContentKNN", "ContentKNNConfig"),
    "factorization": ("momentary.models.factorization", "Factorization", "FactorizationConfig"),
    "gru4rec": ("momentary.models.gru4rec", "GRU4Rec", "GRU4RecConfig"),
    "feature_rnn": ("momentary.models.feature_rnn", "FeatureRNN", "FeatureRNNConfig"),
    "hierarchical_rnn": (
        "momentary.models.hierarchical_rnn",
        "HierarchicalRNN",
        "HierarchicalRNNConfig",
    ),
    "attentive_rnn": ("momentary.models.attentive_rnn", "AttentiveRNN", "AttentiveRNNConfig"),
    "hybrid": ("momentary.models.hybrid", "Hybrid", "HybridConfig"),
}
"""Kind to module, model and configuration; a module is imported when its model is wanted."""


def make(kind: str, settings: Mapping[str, object] | None = None) -> Scorer:
    """An unfitted model from plain settings, as they stand in TOML or on a command line.

    Raises:
        SettingsError: If the kind or a setting is unknown, or a value cannot work.
    """
    if kind not in KINDS:
        raise SettingsError(f"There is no model {kind!r}; there are {', '.join(KINDS)}.")
    module_name, model_name, config_name = KINDS[kind]
    module = importlib.import_module(module_name)
    config_type = getattr(module, config_name)
    wanted = dict(settings or {})
    known = [field.name for field in fields(config_type)]
    for name in wanted:
        if name not in known:
            raise SettingsError(f"{kind} has no setting {name!r}; it has {', '.join(known)}.")
    try:
        config = msgspec.convert(wanted, config_type, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"{kind}: {error}") from error
    model: Scorer = getattr(module, model_name)(config)
    return model


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Models that were trained together and share their item indices.

    Attributes:
        scorers: By role: "main" answers, "related" relates items and gives reasons, "fallback"
            answers when the main one cannot.
        items: Outside ids in the order of the item indices.
        facts: What a reader wants to know: data, sizes, metrics; JSON values only.
        version: Name of the folder, "" before it is saved.
        placement: How items that nobody touched are placed among the others; None where nothing
            was encoded when the models were trained.
        graph: Of the main scorer's items; None where lists come from the exact search.
        graph_note: Why a graph that one might expect is not at work; "" where nobody would.
    """

    scorers: Mapping[str, Scorer]
    items: Vocabulary
    facts: Mapping[str, Any]
    version: str = ""
    placement: Placement | None = None
    graph: Graph | None = None
    graph_note: str = ""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str
    config: dict[str, Any]
    sha256: str


class _Manifest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    format: int
    momentary: str
    created: str
    items_sha256: str
    scorers: dict[str, _Part]
    facts: dict[str, Any]
    placement: _Part | None = None
    graph: _Part | None = None


def save(bundle: Bundle, folder: Path, *, now: datetime) -> None:
    """Write a bundle to a folder that does not exist yet; it appears whole or not at all.

    Raises:
        ArtifactError: If the folder exists.
    """
    if folder.exists():
        raise ArtifactError(f"{folder} exists; a saved model is never overwritten.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    try:
        parts = {}
        for role, scorer in bundle.scorers.items():
            file = draft / f"{role}.safetensors"
            save_file(_whole(scorer.state()), file)
            parts[role] = _Part(
                kind=scorer.kind,
                config={name: _json(value) for name, value in asdict(scorer.config).items()},
                sha256=_sha256(file),
            )
        placement = None
        if bundle.placement is not None:
            file = draft / _PLACEMENT
            save_file(_whole(bundle.placement.state()), file)
            settings = bundle.placement.settings()
            placement = _Part(kind="placement", config=settings, sha256=_sha256(file))
        graph = None if bundle.graph is None else _graph_part(bundle.graph, draft / _GRAPH)
        items = draft / "items.json"
        items.write_bytes(msgspec.json.encode(bundle.items.ids))
        manifest = _Manifest(
            format=FORMAT,
            momentary=__version__,
            created=now.astimezone(UTC).isoformat(timespec="seconds"),
            items_sha256=_sha256(items),
            scorers=parts,
            facts=dict(bundle.facts),
            placement=placement,
            graph=graph,
        )
        (draft / "manifest.json").write_bytes(_pretty(manifest))
        for file in draft.iterdir():
            _sync(file)
        draft.rename(folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def load(folder: Path) -> Bundle:
    """Read a bundle back, ready to score.

    Raises:
        ArtifactError: If something is missing, damaged, or of another format.
    """
    manifest = read_manifest(folder)
    items_file = folder / "items.json"
    _check(items_file, manifest.items_sha256)
    scorers = {}
    for role, part in manifest.scorers.items():
        file = folder / f"{role}.safetensors"
        _check(file, part.sha256)
        model_type = type(make(part.kind, part.config))
        scorers[role] = model_type.from_state(make(part.kind, part.config).config, _arrays(file))
    return Bundle(
        scorers=scorers,
        items=Vocabulary(msgspec.json.decode(items_file.read_bytes(), type=list[str])),
        facts=manifest.facts,
        version=folder.name,
        placement=None if manifest.placement is None else _placement(folder, manifest.placement),
    )


def add_graph(folder: Path, graph: Graph) -> None:
    """Keep a graph in the folder of a saved bundle, in place of one that is there.

    Raises:
        ArtifactError: If there is no bundle.
    """
    manifest = read_manifest(folder)
    drafts = folder / f"{_GRAPH}.draft", folder / "manifest.json.draft"
    part = _graph_part(graph, drafts[0])
    drafts[1].write_bytes(_pretty(msgspec.structs.replace(manifest, graph=part)))
    for draft in drafts:
        _sync(draft)
        # Cut off in between, the graph is not the manifest's and the exact search steps in.
        draft.replace(draft.with_suffix(""))
    _sync(folder)


def graph_state(folder: Path) -> Arrays | None:
    """The links of a saved bundle's graph; None if it has none.

    Raises:
        ArtifactError: If the file is missing or damaged.
    """
    part = read_manifest(folder).graph
    if part is None:
        return None
    file = folder / _GRAPH
    _check(file, part.sha256, remedy="build it again: momentary index")
    return _arrays(file)


def _graph_part(graph: Graph, file: Path) -> _Part:
    save_file(_whole(graph.state()), file)
    return _Part(kind="graph", config={"items": graph.n_items}, sha256=_sha256(file))


def _pretty(manifest: _Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def _placement(folder: Path, part: _Part) -> Placement:
    from momentary.models.placement import Placement, PlacementConfig

    file = folder / _PLACEMENT
    _check(file, part.sha256)
    config = msgspec.convert(part.config, PlacementConfig, strict=False)
    return Placement.from_state(config, _arrays(file))


def _arrays(file: Path) -> dict[str, Any]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ArtifactError(f"{file} cannot be read: {error}. Train again.") from error


def _whole(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.ascontiguousarray(array) for name, array in state.items()}


def read_manifest(folder: Path) -> _Manifest:
    """What a saved bundle says of itself.

    Raises:
        ArtifactError: If there is none, or it is of another format.
    """
    file = folder / "manifest.json"
    if not file.is_file():
        raise ArtifactError(f"{folder} holds no saved model; run: momentary train")
    try:
        manifest = msgspec.json.decode(file.read_bytes(), type=_Manifest)
    except msgspec.MsgspecError as error:
        raise ArtifactError(f"{file} is damaged: {error}. Train again.") from error
    if manifest.format != FORMAT:
        raise ArtifactError(
            f"{file} has format {manifest.format}, this momentary reads {FORMAT}. Train again."
        )
    return manifest


class _LikenessManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: int
    momentary: str
    created: str
    config: dict[str, Any]
    values: dict[str, tuple[str, ...]]
    encoders: dict[str, str]
    weights: dict[str, float]
    figures: dict[str, dict[str, float]]
    file: str
    sha256: str


def save_likeness(learned: LearnedLikeness, folder: Path, *, now: datetime) -> None:
    """Keep a likeness in a folder instead of what was there; a reader finds the one or the other.

    The numbers stand in a file that is named by their hash; the manifest is replaced last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / ".draft.safetensors"
    save_file(_whole(learned.model.state()), draft)
    sha256 = _sha256(draft)
    file = folder / f"{sha256[:16]}.safetensors"
    _sync(draft)
    draft.replace(file)
    manifest = _LikenessManifest(
        format=FORMAT,
        momentary=__version__,
        created=now.astimezone(UTC).isoformat(timespec="seconds"),
        config=asdict(learned.model.config),
        values=dict(learned.values),
        encoders=dict(learned.encoders),
        weights=dict(learned.weights),
        figures={kind: dict(each) for kind, each in learned.figures.items()},
        file=file.name,
        sha256=sha256,
    )
    pretty = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    written = folder / ".draft.json"
    written.write_bytes(pretty + b"\n")
    _sync(written)
    written.replace(folder / _LIKENESS)
    _sync(folder)
    for other in folder.glob("*.safetensors"):
        if other.name != file.name:
            other.unlink()


def load_likeness(folder: Path) -> LearnedLikeness | None:
    """The likeness that is kept in a folder; None where there is none.

    Raises:
        ArtifactError: If it is damaged, or of another format.
    """
    from momentary.models.learned_likeness import LearnedLikeness
    from momentary.models.likeness import Likeness, LikenessConfig

    manifest_file = folder / _LIKENESS
    if not manifest_file.is_file():
        return None
    try:
        manifest = msgspec.json.decode(manifest_file.read_bytes(), type=_LikenessManifest)
        config = msgspec.convert(manifest.config, LikenessConfig)
        if manifest.format != FORMAT:
            raise ValueError(f"it has format {manifest.format}, this momentary reads {FORMAT}")
    except (msgspec.MsgspecError, ValueError) as error:
        raise ArtifactError(f"{manifest_file} is damaged: {error}; {_TEACH}.") from error
    file = folder / Path(manifest.file).name
    _check(file, manifest.sha256, remedy=_TEACH)
    return LearnedLikeness(
        model=Likeness.from_state(config, _arrays(file)),
        values=manifest.values,
        encoders=manifest.encoders,
        weights=manifest.weights,
        figures=manifest.figures,
    )


def drop_likeness(folder: Path) -> bool:
    """Forget what is kept; False where there is nothing."""
    if not (folder / _LIKENESS).is_file():
        return False
    (folder / _LIKENESS).unlink()
    for file in folder.glob("*.safetensors"):
        file.unlink()
    return True


class ModelStore:
    """The saved bundles of one workspace and the alias `prod`, which the service answers with."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._aliases = root / "aliases.json"

    def add(self, bundle: Bundle, *, now: datetime) -> str:
        """Save a bundle under a new version name: kind, time and a running number if need be."""
        stem = f"{bundle.scorers['main'].kind}-{now.astimezone(UTC):%Y%m%dT%H%M%S}"
        version, number = stem, 1
        while (self.root / version).exists():
            number += 1
            version = f"{stem}-{number}"
        save(bundle, self.root / version, now=now)
        return version

    def versions(self) -> tuple[str, ...]:
        """All saved versions, oldest first; before them those whose manifest cannot be read."""
        folders = [file.parent for file in self.root.glob("*/manifest.json")]
        shown = [folder for folder in folders if not folder.name.startswith(".")]
        return tuple(folder.name for folder in sorted(shown, key=_by_age))

    def promote(self, version: str, *, alias: str = PROD) -> None:
        """Let an alias mean this version; `previous` then is what `prod` was.

        The change is atomic.

        Raises:
            ArtifactError: If there is no such version.
        """
        read_manifest(self.root / version)
        aliases = self.aliases()
        before = aliases.get(PROD)
        if alias == PROD and before is not None and before != version:
            aliases[PREVIOUS] = before
        self._write_aliases({**aliases, alias: version})

    def remove(self, version: str) -> None:
        """Delete a saved version, and `previous` if that meant it.

        Raises:
            ArtifactError: If there is no such version, or another alias means it.
        """
        if version not in self.versions():
            raise ArtifactError(f"There is no model {version!r}; {self._there()}")
        aliases = self.aliases()
        held = sorted(name for name, of in aliases.items() if of == version and name != PREVIOUS)
        if held:
            raise ArtifactError(
                f"{version} is {' and '.join(held)}; let that mean another version first."
            )
        self._write_aliases({name: of for name, of in aliases.items() if of != version})
        # Under a name that no listing shows, so that it goes whole or not at all.
        doomed = Path(tempfile.mkdtemp(prefix=".removed-", dir=self.root))
        (self.root / version).rename(doomed / version)
        shutil.rmtree(doomed)

    def aliases(self) -> dict[str, str]:
        """Alias to version."""
        if not self._aliases.is_file():
            return {}
        return msgspec.json.decode(self._aliases.read_bytes(), type=dict[str, str])

    def load(self, name: str = PROD) -> Bundle:
        """The bundle of a version or an alias.

        Raises:
            ArtifactError: If there is no such model; the message names those that exist.
        """
        version = self.aliases().get(name, name)
        if not (self.root / version / "manifest.json").is_file():
            raise ArtifactError(f"There is no model {name!r}; {self._there()}")
        return load(self.root / version)

    def _there(self) -> str:
        there = ", ".join((*self.aliases(), *self.versions()))
        return f"there are {there}." if there else "there is none yet; run: momentary train"

    def _write_aliases(self, aliases: Mapping[str, str]) -> None:
        draft = self._aliases.with_suffix(".draft")
        draft.write_bytes(msgspec.json.encode(aliases))
        _sync(draft)
        draft.replace(self._aliases)


def _by_age(folder: Path) -> tuple[str, str]:
    try:
        return read_manifest(folder).created, folder.name
    except ArtifactError:
        return "", folder.name


def _json(value: object) -> object:
    """JSON knows no infinity; as text it comes back through `make`."""
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _check(file: Path, sha256: str, *, remedy: str = "train again") -> None:
    if not file.is_file():
        raise ArtifactError(f"{file} is missing; restore it or {remedy}.")
    if _sha256(file) != sha256:
        raise ArtifactError(f"{file} was changed or damaged since it was saved; {remedy}.")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
