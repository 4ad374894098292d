"""Reading parallel text that is no file: data sets of the Hub and sacreBLEU's test sets, there, missing or damaged."""

import io
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from pairs import PAIRS, pairs_of, put

from headcount.data.parallel import read_pairs
from headcount.errors import BadData


@pytest.fixture
def hub_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Data sets in directories, read as ones of the Hub: one of translations, one of columns, one of structs."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    de, en = [row[0] for row in PAIRS], [row[1] for row in PAIRS]
    translations = [{"de": left, "en": right} for left, right in PAIRS]
    feature = datasets.Features({"translation": datasets.Translation(languages=["de", "en"])})
    sets = {
        "wmt": datasets.Dataset.from_dict({"translation": translations}, features=feature),
        "plain": datasets.Dataset.from_dict({"en": en, "de": de}),
        "three": datasets.Dataset.from_dict({"idx": [1, 2, 3], "de": [*de[:2], None], "en": en}),
    }
    for name, data in sets.items():
        (tmp_path / name).mkdir()
        data.to_parquet(tmp_path / name / "train.parquet")
    return f"hub:{tmp_path}"


def test_data_sets_of_the_hub(hub_like: str) -> None:
    pairs = read_pairs(f"{hub_like}/wmt:train", languages=("de", "en"))
    assert (pairs_of(pairs), pairs.places) == (PAIRS, [1, 2, 3])
    assert pairs.where(2) == f"{hub_like}/wmt:train, row 3"
    with pytest.raises(BadData, match=r"languages of hub:.*/wmt:train\[:1\] .*none were given. Its languages: de, en"):
        read_pairs(f"{hub_like}/wmt:train[:1]")
    assert pairs_of(read_pairs(f"{hub_like}/plain:train[1:]", languages=("de", "en"))) == PAIRS[1:]
    assert pairs_of(read_pairs(f"{hub_like}/plain:train[:1]")) == [PAIRS[0][::-1]]
    assert pairs_of(read_pairs(f"{hub_like}/three:train[:2]", columns=("en", "de"))) == [row[::-1] for row in PAIRS[:2]]


def test_bad_data_sets_of_the_hub(hub_like: str) -> None:
    with pytest.raises(BadData, match=r"columns of .*/three:train .* Its columns: idx, de, en\. Give two"):
        read_pairs(f"{hub_like}/three:train")
    with pytest.raises(BadData, match=r"three:train, row 3: column 'de' must be text, got None"):
        read_pairs(f"{hub_like}/three:train", languages=("de", "en"))
    with pytest.raises(BadData, match=r"three:train has no column 'fr'\. Its columns: idx, de, en"):
        read_pairs(f"{hub_like}/three:train", columns=("fr", "en"))
    with pytest.raises(BadData, match=r"(?s)Cannot load '.*:test' from the Hub: .*train"):
        read_pairs(f"{hub_like}/wmt:test")
    with pytest.raises(BadData, match=r"Cannot load '.*plain:train\[:0\]' from the Hub: .*no data"):
        read_pairs(f"{hub_like}/plain:train[:0]")
    with pytest.raises(BadData, match="'wmt/wmt14' is neither on this machine nor can the Hub be reached"):
        read_pairs("hub:wmt/wmt14:de-en:test", languages=("de", "en"))
    with pytest.raises(BadData, match="Write hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT"):
        read_pairs("hub:wmt/wmt14")


def drop_sacrebleu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sacrebleu"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of sacrebleu's, which looks up where it is when it is imported; and no network."""

    def unreachable(*_: Any) -> None:
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setenv("SACREBLEU", str(tmp_path / "sacrebleu"))
    drop_sacrebleu(monkeypatch)
    yield tmp_path / "sacrebleu"
    for name in [name for name in sys.modules if name.partition(".")[0] == "sacrebleu"]:
        del sys.modules[name]  # monkeypatch then puts back those that were there before


def sgm(*sentences: str) -> str:
    segments = "".join(f'<seg id="{i}">{text}</seg>\n' for i, text in enumerate(sentences, start=1))
    return f'<doc docid="a" genre="news" origlang="en">\n<p>\n{segments}</p>\n</doc>\n'


def fetched(cache: Path, name: str, archive: str, **files: str) -> None:
    """What a test set looks like after sacrebleu has fetched and unpacked it."""
    raw = cache / name / "raw"
    for path, content in {archive: "fetched before", **files}.items():
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        (raw / path).write_text(content)


WMT19 = {
    "sgm/newstest2019-ende-src.en.sgm": sgm("A  dog runs.", "\u2028Two\u2028dogs."),
    "sgm/newstest2019-ende-ref.de.sgm": sgm("Ein Hund läuft.", "Zwei Hunde."),
}


def test_test_sets_of_sacrebleu(cache: Path) -> None:
    fetched(cache, "wmt19", "wmt19.test.tgz", **WMT19)
    expected = [("A dog runs.", "Ein Hund läuft."), ("Two dogs.", "Zwei Hunde.")]
    for languages in (None, ("en", "de"), ("EN", "DE")):
        pairs = read_pairs("sacrebleu:wmt19:en-de", languages=languages)
        assert pairs_of(pairs) == expected
    assert pairs.where(1) == "sacrebleu:wmt19:en-de, line 2"
    with pytest.raises(BadData, match="sacrebleu:wmt19:en-de is en-de, but the languages are de and en. Make one fit"):
        read_pairs("sacrebleu:wmt19:en-de", languages=("de", "en"))


def test_test_sets_already_prepared(cache: Path) -> None:
    """Of several references the first is taken; names may hold a slash."""
    (cache / "wmt20" / "tworefs").mkdir(parents=True)
    texts = {
        "src": "eins\n",
        "ref-0": "one\n",
        "ref-1": "the one\n",
        "docid": "a\n",
        "genre": "x\n",
        "origlang": "de\n",
    }
    for part, text in texts.items():
        put(cache / "wmt20" / "tworefs" / f"wmt20_tworefs.de-en.{part}", text)
    assert pairs_of(read_pairs("sacrebleu:wmt20/tworefs:de-en")) == [("eins", "one")]
    (cache / "iwslt17").mkdir()
    for part in ("src", "ref", "docid", "genre", "origlang"):
        put(cache / "iwslt17" / f"iwslt17.de-en.{part}", f"{part}\u2028\x85.\n")
    assert pairs_of(read_pairs("sacrebleu:iwslt17:de-en")) == [("src\u2028\x85.", "ref\u2028\x85.")]


def test_test_sets_that_are_not_there(cache: Path) -> None:
    with pytest.raises(BadData, match=r"sacrebleu has no test set 'wmt-19'\. Close to it: wmt19, "):
        read_pairs("sacrebleu:wmt-19:en-de")
    with pytest.raises(BadData, match=r"has no test set 'flores'\. It has: wmt24, .*multi30k/2016, "):
        read_pairs("sacrebleu:flores:en-de")
    with pytest.raises(BadData, match=r"test set 'iwslt17' has no pair 'de-fr'\. Its pairs: en-fr, .*de-en"):
        read_pairs("sacrebleu:iwslt17:de-fr")
    for source in ("sacrebleu:wmt19", "sacrebleu:wmt19:en", "sacrebleu:wmt19:en-de-fr", "sacrebleu::en-de"):
        with pytest.raises(BadData, match=f"Cannot read '{source}'. Write sacrebleu:TESTSET:SRC-TRG, as in"):
            read_pairs(source)


@pytest.mark.parametrize("source", ["wmt19:en-de", "wmt22:en-de", "multi30k/2016:en-de", "mtnt2019:en-fr"])
def test_test_sets_need_the_network_once(source: str, cache: Path) -> None:
    with pytest.raises(BadData, match="neither on this machine nor can it be fetched .*no network here.*Connect") as e:
        read_pairs(f"sacrebleu:{source}")
    assert str(cache / source.partition(":")[0]) in str(e.value)


def test_test_sets_that_are_damaged(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = f"Delete the folder '{cache}/wmt19', and sacrebleu fetches it anew"
    fetched(cache, "wmt19", "wmt19.test.tgz")
    with pytest.raises(BadData, match=rf"cannot prepare test set 'wmt19' \(FileNotFoundError.*{says}"):
        read_pairs("sacrebleu:wmt19:en-de")
    put(cache / "wmt19" / "wmt19.en-de.src", "one\ntwo\n")
    for part in ("ref", "docid", "genre", "origlang"):
        put(cache / "wmt19" / f"wmt19.en-de.{part}", "eins\n")
    with pytest.raises(BadData, match=rf"Lines of .*en-de\.src: 2; lines of .*en-de\.ref: 1.*{says}"):
        read_pairs("sacrebleu:wmt19:en-de")
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_: io.BytesIO(b"not what was meant"))
    with pytest.raises(BadData, match=r"cannot prepare test set 'iwslt17' \(wrong checksum, or no safe connection\)"):
        read_pairs("sacrebleu:iwslt17:de-en")
