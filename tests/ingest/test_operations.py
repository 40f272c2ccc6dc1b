"""What an operator does: replay, skip, sync, shards, aliases, dry runs, metrics, undo."""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from splade_os import DocumentEncoder, ingest_documents
from splade_os.cli import cli
from splade_os.engines import Engine
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import IngestError, SpladeError, SpladeWarning
from splade_os.ingest.documents.records import Record, RecordReader
from splade_os.ingest.index.load_settings import loading
from splade_os.ingest.index.target import ensure_index
from splade_os.ingest.metrics import metrics_server
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.report import IngestReport
from splade_os.ingest.sources import find_source, read_source
from tests.faults.loads import Load, check_index, make_load


class Place:
    """One index of one engine, and the command line."""

    def __init__(self, url: str, index: str, model: Path, folder: Path) -> None:
        self.url, self.index, self.model, self.folder = url, index, model, folder

    def __call__(self, *arguments: str, index: bool = True) -> tuple[Result, dict[str, Any]]:
        command = [*arguments, "--url", self.url]
        command += ["--index", self.index] if index else []
        done = CliRunner().invoke(cli, command)
        assert done.exception is None or isinstance(done.exception, SystemExit | SpladeError)
        return done, json.loads(done.stdout) if "--json" in arguments and done.stdout else {}

    def ingest(self, load: Load, *more: str, index: bool = True) -> tuple[Result, dict[str, Any]]:
        dead = str(self.folder / "dead.jsonl")
        return self(
            *("ingest", str(load.file), "--vectors", "--model", str(load.model), "--json"),
            *("--dead-letters", dead, *more),
            index=index,
        )


@pytest.fixture
def place(engine_url: str, index: str, tiny: Path, tmp_path: Path) -> Place:
    return Place(engine_url, index, tiny / "router", tmp_path)


def test_dead_letters_are_replayed(
    engine: Engine, place: Place, tmp_path: Path, index: str
) -> None:
    """Own ids, other fields, damage: what is mended goes where it was meant to go."""
    rows = [
        '{"sku": "a", "name": "red cat", "body": "sun", "x": 1}',
        '{"sku": "b", "name": "blue dog", "body": {"x": 7}}',
        "not json",
        '{"sku": "d", "name": "small fish", "body": "river", "splade_os_vector": 1}',
    ]
    (tmp_path / "docs.jsonl").write_text("\n".join(rows) + "\n")
    dead = tmp_path / "dead.jsonl"
    done, report = place(
        *("ingest", str(tmp_path / "docs.jsonl"), "--model", str(place.model), "--json"),
        *("--text", "name,body", "--id", "sku", "--rename", "name=title", "--drop", "x"),
        *("--dead-letters", str(dead)),
    )
    assert done.exit_code == 3, done.stderr
    assert (report["created"], report["dead"]) == (1, 3)
    letters = {letter["position"]: letter for letter in map(json.loads, dead.open())}
    assert [letters[n]["where"] for n in (2, 3, 4)] == [f"docs.jsonl:{n}" for n in (2, 3, 4)]
    letters[2]["record"]["body"] = "moon"
    letters[3]["record"] = '{"sku": "c", "name": "old tree", "body": "house"}'
    dead.write_text("".join(json.dumps(letter) + "\n" for letter in letters.values()))
    again = tmp_path / "again.jsonl"
    done, report = place("retry", str(dead), "--json", "--dead-letters", str(again), index=False)
    assert done.exit_code == 3, done.stderr
    assert (report["created"], report["dead"]) == (2, 1)
    engine.refresh(index)
    fields = ["sku", "title", "body", "x"]
    assert dict(engine.scan(index, fields)) == {
        "a": {"sku": "a", "title": "red cat", "body": "sun"},
        "b": {"sku": "b", "title": "blue dog", "body": "moon"},
        "c": {"sku": "c", "title": "old tree", "body": "house"},
    }
    (letter,) = map(json.loads, again.open())
    assert letter["record"] == json.loads(rows[3]) and letter["index"] == index
    del letter["record"]["splade_os_vector"]
    again.write_text(json.dumps(letter))
    done, report = place("retry", str(again), "--json", index=False)
    assert done.exit_code == 0 and report["created"] == 1, done.stderr
    statistics = engine.load_statistics(index)
    assert statistics is not None and statistics.documents == 4


def test_dead_letters_of_several_indices(
    engine: Engine, place: Place, tmp_path: Path, index: str
) -> None:
    """Never sent to the index of the first one; what fails again never into the file itself."""
    dead = tmp_path / "dead.jsonl"
    letters = [
        {"index": name, "id": str(n), "record": {"id": str(n), "text": "red cat"}}
        for n, name in enumerate([index, f"{index}-other", index])
    ]
    dead.write_text("".join(json.dumps(letter) + "\n" for letter in letters))
    before = dead.read_bytes()
    model = ("--model", str(place.model))
    done, _ = place("retry", str(dead), *model, index=False)
    assert done.exit_code == 2 and not engine.indices(f"{index}*"), done.stderr
    assert f"{index} (2)" in done.stderr and f"{index}-other (1)" in done.stderr
    (tmp_path / "link").symlink_to(dead)
    for same in (dead, tmp_path / "link"):
        done, _ = place("retry", str(dead), *model, "--dead-letters", str(same))
        assert done.exit_code == 2 and "another file" in done.stderr
    assert dead.read_bytes() == before
    done, report = place("retry", str(dead), *model, "--json")  # all to one, as it was told
    assert done.exit_code == 0 and report["created"] == 3, done.stderr


def test_dead_letters_of_an_alias(engine: Engine, place: Place, tmp_path: Path, index: str) -> None:
    """They name the alias: a retry mends what people see, whatever was built since."""
    alias, dead = f"{index}-alias", tmp_path / "dead.jsonl"
    (tmp_path / "docs.jsonl").write_text('{"id": "a", "text": "cat"}\nnot json\n')
    command = ("ingest", str(tmp_path / "docs.jsonl"), "--model", str(place.model), "--json")
    try:
        command += ("--alias", alias)
        done, report = place(*command, "--dead-letters", str(dead), index=False)
        assert isinstance(done.exception, IngestError) and "dead letters" in str(done.exception)
        assert not engine.alias_targets(alias)
        done, report = place(*command, "--resume", "--max-errors", "1", index=False)
        assert done.exit_code == 3, done.stderr
        first = report["index"]
        (letter,) = map(json.loads, dead.open())
        assert letter["index"] == alias
        (tmp_path / "docs.jsonl").write_text('{"id": "a", "text": "dog"}\n')
        done, report = place(*command, index=False)
        assert done.exit_code == 0 and report["index"] != first, done.stderr
        letter["record"] = {"id": "b", "text": "fish", "splade_os_vector": 1}
        dead.write_text(json.dumps(letter) + "\n")
        again = tmp_path / "again.jsonl"
        done, _ = place("retry", str(dead), "--dead-letters", str(again), index=False)
        assert done.exit_code == 3, done.stderr
        (letter,) = map(json.loads, again.open())
        assert letter["index"] == alias
        del letter["record"]["splade_os_vector"]
        again.write_text(json.dumps(letter) + "\n")
        done, found = place("retry", str(again), "--json", index=False)
        assert done.exit_code == 0 and found["index"] == report["index"], done.stderr
        engine.refresh(alias)
        assert {i: d["text"] for i, d in engine.scan(alias, ["text"])} == {"a": "dog", "b": "fish"}
        statistics = engine.load_statistics(report["index"])
        assert statistics is not None and statistics.documents == 2
    finally:
        for name in engine.indices(f"{alias}-*"):
            engine.delete_index(name)


def test_duplicates_unchanged_and_sync(
    engine: Engine, place: Place, tmp_path: Path, index: str
) -> None:
    load = make_load(place.model, tmp_path, 600)
    lines = load.file.read_text().splitlines()
    older = [json.dumps({**json.loads(line), "n": -1}) for line in lines[:200]]
    load.file.write_text("\n".join([*older, *older, *lines]) + "\n")  # the last one counts
    done, report = place.ingest(load)
    assert done.exit_code == 3, done.stderr  # others of the same id were told
    assert (report["created"], report["updated"], report["duplicates"]) == (600, 400, 400)
    assert report["conflicts"] == 200
    check_index(engine, index, load)

    load.file.write_text("\n".join(lines) + "\n")
    done, report = place.ingest(load, "--skip-unchanged")
    assert (report["unchanged"], report["updated"]) == (600, 0), done.stderr
    check_index(engine, index, load)

    other = make_load(place.model, tmp_path, 500, seed=3, name="w.jsonl")
    mixed = [*lines[:100], *other.file.read_text().splitlines()[100:]]  # d500 ... are gone
    load.file.write_text("\n".join(mixed) + "\n")
    half = {i: (load if n < 100 else other).documents[i] for n, i in enumerate(other.documents)}
    now = Load(load.model, load.file, half)
    done, report = place.ingest(now, "--skip-unchanged", "--sync")
    assert done.exit_code == 0, done.stderr
    assert (report["unchanged"], report["updated"], report["deleted"]) == (100, 400, 100)
    assert report["verified"]
    check_index(engine, index, now)

    load.file.write_text("not json\n" + mixed[0] + "\n")
    done, _ = place.ingest(now, "--sync")
    assert isinstance(done.exception, IngestError) and "deletes nothing" in str(done.exception)
    assert engine.count(index) == 500


def test_changed_fields_keep_their_vector(
    engine: Engine, index: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = DocumentEncoder.load(str(tiny / "router"), device="cpu")
    encoded: list[int] = []
    genuine = encoder.encode_batches
    monkeypatch.setattr(
        encoder, "encode_batches", lambda tokens: encoded.append(len(tokens)) or genuine(tokens)
    )

    def run(price: int, text: str = "the cat") -> IngestReport:
        records = [
            Record(i, f"t:{i}", f"d{i}", f"{text} {i}", {"text": f"{text} {i}", "price": price})
            for i in range(1, 41)
        ]
        return ingest_documents(
            records,
            engine=engine,
            index=index,
            encoder=encoder,
            dead_letters=tmp_path / "dead.jsonl",
            text_fields=("text",),
            options=IngestOptions(skip_unchanged=True),
        )

    assert run(1).created == 40 and sum(encoded) == 40
    before = {i: s["splade_os_vector"] for i, s in engine.scan(index)}
    assert run(1).unchanged == 40 and sum(encoded) == 40
    assert run(2).updated == 40 and sum(encoded) == 40
    engine.refresh(index)
    after = dict(engine.scan(index))
    assert {s["price"] for s in after.values()} == {2}
    assert {i: s["splade_os_vector"] for i, s in after.items()} == before
    assert run(2, "a dog").updated == 40 and sum(encoded) == 80


def test_shards_share_an_index(engine: Engine, place: Place, tmp_path: Path, index: str) -> None:
    load = make_load(place.model, tmp_path, 300)
    for shard in ("1/3", "2/3", "3/3"):
        done, report = place.ingest(load, "--shard", shard)
        assert done.exit_code == 0 and report["created"] == 100, done.stderr
    check_index(engine, index, load)


def test_errors_stop_it(engine: Engine, place: Place, tmp_path: Path, index: str) -> None:
    load = make_load(place.model, tmp_path, 300)
    lines = load.file.read_text().splitlines()
    bad = json.dumps({"id": "bad", "text": "cat", "vector": {"no such token": 1}})
    load.file.write_text("\n".join([*lines[:100], bad, *lines[100:200], bad, bad, *lines[200:]]))
    done, _ = place.ingest(load, "--on-error", "abort")
    assert isinstance(done.exception, IngestError) and "no such token" in str(done.exception)
    done, _ = place.ingest(load, "--resume", "--max-errors", "2")
    assert isinstance(done.exception, IngestError) and "more than 2" in str(done.exception)
    done, report = place.ingest(load, "--resume")
    assert done.exit_code == 3, done.stderr
    assert (report["created"], report["dead"], report["read"]) == (300, 3, 303)
    assert len((tmp_path / "dead.jsonl").read_text().splitlines()) == 3
    check_index(engine, index, load)


def test_nothing_goes_on_that_has_changed(place: Place, tmp_path: Path) -> None:
    load = make_load(place.model, tmp_path, 200)
    text = load.file.read_text()
    load.file.write_text('{"id": "x"}\n' + text)
    done, _ = place.ingest(load, "--on-error", "abort")
    assert isinstance(done.exception, IngestError)
    done, _ = place.ingest(load, "--resume", "--id", "n")
    assert "id field was None and is 'n'" in str(done.exception)
    load.file.write_text(text)
    done, _ = place.ingest(load, "--resume")
    assert "content of" in str(done.exception) and "--restart" in str(done.exception)
    done, report = place.ingest(load, "--restart")
    assert done.exit_code == 0 and report["indexed"] == 200, done.stderr


def test_alias(engine: Engine, place: Place, tmp_path: Path, index: str) -> None:
    alias = f"{index}-alias"
    built = []
    try:
        for seed in (1, 2, 3):
            load = make_load(place.model, tmp_path, 100, seed=seed)
            done, report = place.ingest(
                load, "--alias", alias, "--keep-old", "1", "--restart", index=False
            )
            assert done.exit_code == 0 and report["verified"], done.stderr
            built.append(report["index"])
            assert engine.alias_targets(alias) == built[-1:]
            check_index(engine, alias, load)
        assert engine.indices(f"{alias}-*") == built[1:]  # one is kept
        done, _ = place("index", "rollback", "--alias", alias, index=False)
        assert done.exit_code == 0 and engine.alias_targets(alias) == [built[1]]
        done, _ = place("index", "rollback", "--alias", alias, index=False)
        assert "nothing to go back to" in str(done.exception)
        # an ingest that fails never becomes visible
        load.file.write_text("not json\n")
        done, _ = place.ingest(load, "--alias", alias, "--on-error", "abort", index=False)
        assert isinstance(done.exception, IngestError)
        assert engine.alias_targets(alias) == [built[1]]
        done, _ = place.ingest(load, "--alias", built[1], index=False)
        assert "is an index" in str(done.exception)
    finally:
        for name in engine.indices(f"{alias}-*"):
            engine.delete_index(name)


def test_alias_of_much_less(engine: Engine, place: Place, tmp_path: Path, index: str) -> None:
    """Half a source is no reason to take the whole one away; what was built is swapped then."""
    alias = f"{index}-alias"
    try:
        load = make_load(place.model, tmp_path, 100)
        done, report = place.ingest(load, "--alias", alias, index=False)
        assert done.exit_code == 0, done.stderr
        first = report["index"]
        lines = load.file.read_text().splitlines(keepends=True)
        load.file.write_text("".join(lines[:60]))
        done, _ = place.ingest(load, "--alias", alias, index=False)
        assert isinstance(done.exception, IngestError)
        assert "60 documents" in str(done.exception) and "60%" in str(done.exception)
        assert engine.alias_targets(alias) == [first]
        (second,) = set(engine.indices(f"{alias}-*")) - {first}
        done, report = place.ingest(
            load, "--alias", alias, "--resume", "--min-documents", "0.6", index=False
        )
        assert done.exit_code == 0, done.stderr
        assert engine.alias_targets(alias) == [second] and engine.count(second) == 60
    finally:
        for name in engine.indices(f"{alias}-*"):
            engine.delete_index(name)


def test_alias_keeps_what_operators_put_on_it(
    engine: Engine, place: Place, tmp_path: Path, index: str
) -> None:
    """A filter is often there for access control."""
    if not isinstance(engine, ClusterEngine):
        pytest.skip("an alias of SQLite is a name alone")
    alias = f"{index}-alias"
    own = {
        "filter": {"range": {"n": {"lte": 50}}},
        "index_routing": "1",
        "search_routing": "1,2",
        "is_write_index": True,
    }
    try:
        load = make_load(place.model, tmp_path, 60)
        done, report = place.ingest(load, "--alias", alias, index=False)
        assert done.exit_code == 0, done.stderr
        actions = [{"add": {"index": report["index"], "alias": alias, **own}}]
        engine.request("POST", "/_aliases", {"actions": actions})
        done, report = place.ingest(load, "--alias", alias, index=False)
        assert done.exit_code == 0, done.stderr
        found = engine.request("GET", f"/_alias/{alias}")
        assert found == {report["index"]: {"aliases": {alias: own}}}
    finally:
        for name in engine.indices(f"{alias}-*"):
            engine.delete_index(name)


def test_two_swaps_at_the_same_time(engine: Engine, place: Place, index: str) -> None:
    """The alias stands for one index, whichever was the last."""
    alias, names = f"{index}-alias", [f"{index}-{n}" for n in range(3)]
    encoder = DocumentEncoder.load(str(place.model), device="cpu")
    try:
        for name in names:
            ensure_index(engine, name, encoder.identity, ("text",))
        engine.point_alias(alias, names[0])
        for _ in range(10):
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda name: engine.point_alias(alias, name), names[1:]))
            assert len(engine.alias_targets(alias)) == 1
    finally:
        for name in names:
            engine.delete_index(name)


def test_canaries(engine: Engine, place: Place, tmp_path: Path, index: str) -> None:
    """The alias moves only if the user's own queries find what they must."""
    alias = f"{index}-alias"
    texts = ["the red cat in the sun", "a blue dog at the river", "the moon and a small fish"]
    file = tmp_path / "docs.jsonl"
    rows = [
        {"id": f"d{i}", "text": text, "vector": dict.fromkeys(text.split(), 1.0)}
        for i, text in enumerate(texts)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    wanted = tmp_path / "canaries.txt"

    def load(*more: str) -> tuple[Result, dict[str, Any]]:
        return place(
            *("ingest", str(file), "--vectors", "--model", str(place.model), "--json"),
            *("--alias", alias),
            *("--dead-letters", str(tmp_path / "dead.jsonl"), *more),
            index=False,
        )

    try:
        done, first = load("--canary", f"a = {texts[0]}=d0")
        assert done.exit_code == 0 and engine.alias_targets(alias) == [first["index"]], done.stderr
        wanted.write_text(f"{texts[0]}=d0\n\n{texts[1]}=gone\n{texts[2]}=d1\n")
        canaries = ("--canary-mode", "bm25", "--canary-k", "1", "--canary", f"@{wanted}")
        done, second = load(*canaries)
        assert done.exit_code == 1 and not second["verified"] and second["created"] == 3
        assert [fault.split("; ")[0] for fault in second["lost_canaries"]] == [
            f"{texts[1]!r} does not find gone, which is not in the index",
            f"{texts[2]!r} does not find d1",
        ]
        assert f"still stands for {first['index']}" in done.stderr and "--resume" in done.stderr
        assert engine.alias_targets(alias) == [first["index"]]
        assert set(engine.indices(f"{alias}-*")) == {first["index"], second["index"]}
        wanted.write_text(wanted.read_text().replace("gone", "d1").replace("fish=d1", "fish=d2"))
        done, third = load(*canaries, "--resume")  # nothing is loaded again
        assert done.exit_code == 0 and third["index"] == second["index"], done.stderr
        assert engine.alias_targets(alias) == [second["index"]]
        done, _ = load("--canary", "no id")
        assert "TEXT=ID" in str(done.exception)
        done, _ = load("--canary", f"@{tmp_path}/missing")
        assert "cannot be read" in str(done.exception)
        statistics = engine.load_statistics(second["index"])
        assert statistics is not None and statistics.documents == 3
    finally:
        for name in engine.indices(f"{alias}-*"):
            engine.delete_index(name)


def test_dry_run(engine: Engine, place: Place, tmp_path: Path, index: str) -> None:
    load = make_load(place.model, tmp_path, 2000)
    load.file.write_text("not json\n" + load.file.read_text())
    done, told = place.ingest(load, "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert (told["read"], told["dead"]) == (512, 1)
    assert 1500 < told["documents"] < 2500
    action, document = told["action"].splitlines()
    assert json.loads(action)["create"]["_id"] == "d0"
    assert json.loads(document)["text"] == load.documents["d0"]["text"]
    assert not engine.indices(f"{index}*")
    assert not (tmp_path / "dead.jsonl").exists()


def test_settings_are_put_back(
    engine: Engine, place: Place, tmp_path: Path, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not place.url.startswith("http"):
        pytest.skip("SQLite has no settings")
    load = make_load(place.model, tmp_path, 50)
    assert place.ingest(load)[0].exit_code == 0
    engine.update_settings(index, {"refresh_interval": "7s"})
    before = dict(engine.settings(index))
    with pytest.raises(RuntimeError), loading(engine, index, "a"):
        during = engine.settings(index)
        assert (during["refresh_interval"], during["number_of_replicas"]) == ("-1", "0")
        raise RuntimeError("anything")
    assert engine.settings(index) == before
    killed = [loading(engine, index, job) for job in "ab"]
    for context in killed:
        context.__enter__()  # and then the process was killed
    with pytest.warns(SpladeWarning, match="has not ended"), loading(engine, index, "a"):
        pass  # a load beside one that may be under way puts nothing back under it
    assert engine.settings(index)["refresh_interval"] == "-1"
    monkeypatch.setenv("SPLADE_OS_STATE", str(tmp_path / "another machine"))
    done, _ = place("index", "restore-settings")
    assert done.exit_code == 0 and "as before" in done.stderr
    assert engine.settings(index) == before
    done, _ = place("index", "restore-settings")
    assert "No ingest" in done.stderr


def test_recount(engine: Engine, place: Place, tmp_path: Path, index: str) -> None:
    load = make_load(place.model, tmp_path, 200)
    assert place.ingest(load, "--no-statistics")[0].exit_code == 0
    assert engine.load_statistics(index) is None
    done, _ = place("index", "recount")
    assert done.exit_code == 0, done.stderr
    check_index(engine, index, load)


def test_metrics() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    port = 19_641
    with metrics_server(port, "products") as update:
        update(IngestReport("products", read=7, created=5, dead=2, queues={"send": 3}))
        with urllib.request.urlopen(f"http://localhost:{port}/metrics") as answer:
            text = answer.read().decode()
        samples = {
            (s.name, s.labels.get("stage")): s.value
            for family in text_string_to_metric_families(text)
            for s in family.samples
        }
        assert samples["splade_os_ingest_read_total", None] == 7
        assert samples["splade_os_ingest_dead_total", None] == 2
        assert samples["splade_os_ingest_queue", "send"] == 3
        with pytest.raises(IngestError, match="Metrics"), metrics_server(port, "x"):
            pass


def test_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "plug.py"
    package.write_text(
        "from splade_os.ingest.documents.records import Item\n"
        "class Words:\n"
        "    name, unit, repeatable, total, done = 'words', 'documents', True, 2, 0\n"
        "    def fingerprint(self): return 'x'\n"
        "    def items(self, skip=0):\n"
        "        yield from [Item('w', value={'text': text}) for text in 'ab'][skip:]\n"
        "def open_words(rest, options): return Words()\n"
    )
    info = tmp_path / "plug-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[splade_os.sources]\nwords = plug:open_words\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    records = list(read_source(find_source("words:x"), RecordReader()))
    assert [record.text for record in records if isinstance(record, Record)] == ["a", "b"]
