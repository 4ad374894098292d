"""The parallel corpus made by rules: number words that can be read back, true German, the same for a seed."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headcount.errors import BadRecipe
from headcount.experiments.demo.parallel_corpus import LONGEST, clock, number, ordinal, write, year

VALUES = (*range(20), *range(20, 100, 10))
ENGLISH_WORDS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
"""
GERMAN_WORDS = """
    null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn
    achtzehn neunzehn zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig
"""
ENGLISH = dict(zip(ENGLISH_WORDS.split(), VALUES, strict=True))
GERMAN: dict[str, int] = dict(zip(GERMAN_WORDS.split(), VALUES, strict=True)) | {"ein": 1}
FINITE = """
    werde wird werden muss müssen kann können sollte sollten habe hat haben bin ist sind wurde wurden kostet beginnt
    endet fängt hört fährt kommt findet wohne wohnt wohnen ergibt
"""
ARTICLES = {
    ("der", "den"): """
        Apfel Hut Brief Schlüssel Film Vortrag Zug Bus Mantel Tisch Arzt Januar Februar März April Mai Juni Juli August
        September Oktober November Dezember
    """,
    ("die",): "Birne Münze Blume Sitzung Fähre Lampe Jacke Stadt Insel Kinder",
    ("das",): "Ei Buch Glas Konzert Spiel Schiff Fahrrad Zelt Tal Land",
}
FIRST_TWENTY = [
    ("I know that the lamp costs one hundred and three euros.", "Ich weiß, dass die Lampe hundertdrei Euro kostet."),
    ("Eighteen plus sixty-nine equals eighty-seven.", "Achtzehn plus neunundsechzig ergibt siebenundachtzig."),
    ("They write that they live on the twentieth floor.", "Sie schreiben, dass sie im zwanzigsten Stock wohnen."),
    (
        "My sister drew four pears on the twenty-sixth of October nineteen fifty-four.",
        "Meine Schwester hat am sechsundzwanzigsten Oktober neunzehnhundertvierundfünfzig vier Birnen gezeichnet.",
    ),
    ("Must she call the doctor at twenty-five past nine?", "Muss sie um fünf vor halb zehn den Arzt anrufen?"),
    ("On the twentieth of May he must buy seven letters.", "Am zwanzigsten Mai muss er sieben Briefe kaufen."),
    (
        "They write that the children came home at five to eleven.",
        "Sie schreiben, dass die Kinder um fünf vor elf nach Hause gekommen sind.",
    ),
    (
        "Does the bus arrive at twenty-five past three on the second of August?",
        "Kommt der Bus am zweiten August um fünf vor halb vier an?",
    ),
    (
        "Should my brother get up at five past ten on the seventeenth of September?",
        "Sollte mein Bruder am siebzehnten September um fünf nach zehn aufstehen?",
    ),
    (
        "Were they born on the seventh of May nineteen seventy-one?",
        "Wurden sie am siebten Mai neunzehnhunderteinundsiebzig geboren?",
    ),
    ("Does the lecture take place in room forty-nine?", "Findet der Vortrag in Raum neunundvierzig statt?"),
    (
        "In nineteen seventy-four my parents paid seventy-six euros for the tent.",
        "Im Jahr neunzehnhundertvierundsiebzig haben meine Eltern sechsundsiebzig Euro für das Zelt bezahlt.",
    ),
    (
        "I know that the valley has five thousand nine hundred and twenty-seven inhabitants.",
        "Ich weiß, dass das Tal fünftausendneunhundertsiebenundzwanzig Einwohner hat.",
    ),
    (
        "The concert takes place in room ninety-two the day after tomorrow.",
        "Das Konzert findet übermorgen in Raum zweiundneunzig statt.",
    ),
    ("Does he live on the forty-sixth floor?", "Wohnt er im sechsundvierzigsten Stock?"),
    ("I know that I will get up at ten to eight.", "Ich weiß, dass ich um zehn vor acht aufstehen werde."),
    (
        "The country has eight thousand five hundred and eighty-two inhabitants.",
        "Das Land hat achttausendfünfhundertzweiundachtzig Einwohner.",
    ),
    (
        "Did he come home at six o'clock the day before yesterday?",
        "Ist er vorgestern um sechs Uhr nach Hause gekommen?",
    ),
    (
        "I paid twenty-eight euros for the bicycle on the thirtieth of August nineteen forty-one.",
        "Ich habe am dreißigsten August neunzehnhunderteinundvierzig achtundzwanzig Euro für das Fahrrad bezahlt.",
    ),
    (
        "I know that the concert takes place in room eleven tomorrow.",
        "Ich weiß, dass das Konzert morgen in Raum elf stattfindet.",
    ),
]


def read_english(words: str) -> int:
    total = group = 0
    for word in words.replace("-", " ").replace(" and ", " ").split():
        if word == "thousand":
            total, group = total + group * 1000, 0
        else:
            group = group * 100 if word == "hundred" else group + ENGLISH[word]
    return total + group


def read_german(word: str) -> int:
    for name, size in (("tausend", 1000), ("hundert", 100)):
        if name in word:
            before, after = word.split(name, maxsplit=1)
            return (read_german(before) if before else 1) * size + (read_german(after) if after else 0)
    units, und, tens = word.partition("und")
    return GERMAN[units] + GERMAN[tens] if und else GERMAN[word]


def read(paths: tuple[Path, ...]) -> list[list[str]]:
    return [path.read_text(encoding="utf-8").splitlines() for path in paths]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    english, german, more_english, more_german = read(write(tmp_path_factory.mktemp("parallel"), 1500, seed=5))
    assert [len(english), len(german), len(more_english), len(more_german)] == [1500, 1500, 75, 75]
    return list(zip(english + more_english, german + more_german, strict=True))


@given(st.integers(0, 999_999))
def test_numbers_read_back(n: int) -> None:
    english, german = number(n)
    assert (read_english(english), read_german(german)) == (n, n)
    assert "eins" not in german.removesuffix("eins") and " " not in german


@pytest.mark.parametrize(
    ("n", "english", "german"),
    [
        (0, "zero", "null"),
        (1, "one", "eins"),
        (16, "sixteen", "sechzehn"),
        (17, "seventeen", "siebzehn"),
        (20, "twenty", "zwanzig"),
        (21, "twenty-one", "einundzwanzig"),
        (30, "thirty", "dreißig"),
        (66, "sixty-six", "sechsundsechzig"),
        (77, "seventy-seven", "siebenundsiebzig"),
        (100, "one hundred", "hundert"),
        (101, "one hundred and one", "hunderteins"),
        (142, "one hundred and forty-two", "hundertzweiundvierzig"),
        (999, "nine hundred and ninety-nine", "neunhundertneunundneunzig"),
        (1000, "one thousand", "tausend"),
        (1001, "one thousand and one", "tausendeins"),
        (1110, "one thousand one hundred and ten", "tausendeinhundertzehn"),
        (2305, "two thousand three hundred and five", "zweitausenddreihundertfünf"),
        (21_000, "twenty-one thousand", "einundzwanzigtausend"),
        (100_100, "one hundred thousand one hundred", "hunderttausendeinhundert"),
        (101_001, "one hundred and one thousand and one", "hunderteintausendeins"),
    ],
)
def test_numbers(n: int, english: str, german: str) -> None:
    assert number(n) == (english, german)


@pytest.mark.parametrize(
    ("n", "english", "german"),
    [
        (1, "first", "erst"),
        (2, "second", "zweit"),
        (3, "third", "dritt"),
        (5, "fifth", "fünft"),
        (7, "seventh", "siebt"),
        (8, "eighth", "acht"),
        (9, "ninth", "neunt"),
        (12, "twelfth", "zwölft"),
        (13, "thirteenth", "dreizehnt"),
        (17, "seventeenth", "siebzehnt"),
        (19, "nineteenth", "neunzehnt"),
        (20, "twentieth", "zwanzigst"),
        (21, "twenty-first", "einundzwanzigst"),
        (33, "thirty-third", "dreiunddreißigst"),
        (78, "seventy-eighth", "achtundsiebzigst"),
        (90, "ninetieth", "neunzigst"),
    ],
)
def test_ordinals(n: int, english: str, german: str) -> None:
    assert ordinal(n) == (english, german)


@pytest.mark.parametrize(
    ("n", "english", "german"),
    [
        (1100, "eleven hundred", "elfhundert"),
        (1701, "seventeen oh one", "siebzehnhunderteins"),
        (1900, "nineteen hundred", "neunzehnhundert"),
        (1912, "nineteen twelve", "neunzehnhundertzwölf"),
        (1984, "nineteen eighty-four", "neunzehnhundertvierundachtzig"),
        (2000, "two thousand", "zweitausend"),
        (2009, "two thousand and nine", "zweitausendneun"),
        (2010, "twenty ten", "zweitausendzehn"),
        (2025, "twenty twenty-five", "zweitausendfünfundzwanzig"),
    ],
)
def test_years(n: int, english: str, german: str) -> None:
    assert year(n) == (english, german)


@given(st.integers(1100, 2099))
def test_years_read_back(n: int) -> None:
    english, german = year(n)
    assert read_german(german) == n
    century, _, rest = english.removesuffix(" hundred").replace(" oh", "").partition(" ")
    assert n == (read_english(english) if "thousand" in english else 100 * read_english(century) + read_english(rest))


@pytest.mark.parametrize(
    ("hour", "minute", "english", "german"),
    [
        (1, 0, "one o'clock", "ein Uhr"),
        (3, 4, "three o'clock", "drei Uhr"),
        (12, 5, "five past twelve", "fünf nach zwölf"),
        (1, 10, "ten past one", "zehn nach eins"),
        (7, 15, "a quarter past seven", "Viertel nach sieben"),
        (2, 20, "twenty past two", "zwanzig nach zwei"),
        (3, 25, "twenty-five past three", "fünf vor halb vier"),
        (3, 30, "half past three", "halb vier"),
        (12, 30, "half past twelve", "halb eins"),
        (6, 35, "twenty-five to seven", "fünf nach halb sieben"),
        (8, 40, "twenty to nine", "zwanzig vor neun"),
        (4, 45, "a quarter to five", "Viertel vor fünf"),
        (12, 50, "ten to one", "zehn vor eins"),
        (10, 59, "five to eleven", "fünf vor elf"),
    ],
)
def test_clock_times(hour: int, minute: int, english: str, german: str) -> None:
    assert clock(hour, minute) == (english, german)


def test_every_clock_time_has_its_own_words() -> None:
    times = [clock(hour, minute) for hour in range(1, 13) for minute in range(0, 60, 5)]
    assert len({english for english, _ in times}) == len({german for _, german in times}) == 144


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first, again, other = (
        write(tmp_path / "new" / name, 60, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert [path.name for path in first] == ["train.en", "train.de", "validation.en", "validation.de"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert all(path.read_bytes() != unlike.read_bytes() for path, unlike in zip(first, other, strict=True))


def test_the_corpus_does_not_change_unnoticed(tmp_path: Path) -> None:
    english, german, *_ = read(write(tmp_path, 20, seed=0))
    assert list(zip(english, german, strict=True)) == FIRST_TWENTY


def test_no_sentence_twice_and_one_translation(corpus: list[tuple[str, str]], tmp_path: Path) -> None:
    assert len({english for english, _ in corpus}) == len(corpus)
    train, german, *_ = read(write(tmp_path, 1000, seed=6))
    pairs = {*corpus, *zip(train, german, strict=True)}
    assert len({english for english, _ in pairs}) == len({german for _, german in pairs}) == len(pairs)


def test_form(corpus: list[tuple[str, str]]) -> None:
    for english, german in corpus:
        assert re.fullmatch(r"[A-Z][A-Za-z' -]+[.?]", english), english
        assert re.fullmatch(r"[A-ZÄÖÜ][A-Za-zÄÖÜäöüß ]+(, dass [A-Za-zÄÖÜäöüß ]+)?[.?]", german), german
        assert english[-1] == german[-1] and "  " not in english + german
        assert 3 <= len(english.split()) <= LONGEST


def test_the_finite_verb_stands_second_or_first_or_last(corpus: list[tuple[str, str]]) -> None:
    clauses = [german for _, german in corpus if ", dass " in german]
    questions = [german for _, german in corpus if german.endswith("?")]
    turned = [german for _, german in corpus if re.match("(Über)?[Mm]orgen |(Vor)?[Gg]estern ", german)]
    assert min(map(len, (clauses, questions, turned))) > 20
    for german in clauses:
        assert re.search(rf"( |statt|an|auf|ab)({'|'.join(FINITE.split())})\.$", german), german
    for german in questions:
        assert german.split()[0].lower() in FINITE.split(), german
    for german in turned:
        assert german.split()[1] in FINITE.split(), german


def test_articles_and_endings_agree_with_the_noun(corpus: list[tuple[str, str]]) -> None:
    articles = {noun: article for article, nouns in ARTICLES.items() for noun in nouns.split()}
    seen = set()
    for _, german in corpus:
        for article, adjective, noun in re.findall(r"\b([Dd](?:er|en|ie|as)) (?:([a-zäöüß]+) )?([A-ZÄÖÜ]\w*)", german):
            assert article.lower() in articles[noun], german
            assert not adjective or adjective.endswith("ten" if article == "den" else "te"), german
            seen.add(noun)
    assert seen == set(articles)


def test_the_numbers_of_both_sides_agree(corpus: list[tuple[str, str]]) -> None:
    sums = inhabitants = 0
    for english, german in corpus:
        if match := re.fullmatch(r"([\w -]+) (plus|minus) ([\w -]+) equals ([\w -]+)\.", english):
            if ", dass " in german:
                continue
            a, b, total = (read_english(match[i].lower()) for i in (1, 3, 4))
            assert total == (a + b if match[2] == "plus" else a - b)
            assert [read_german(word) for word in german.rstrip(".").lower().split()[::2]] == [a, b, total]
            sums += 1
        if match := re.search(r"(?:has|have) ([\w -]+) inhabitants", english):
            assert read_german(german.split(" Einwohner")[0].split()[-1]) == read_english(match[1])
            inhabitants += 1
    assert sums > 20 and inhabitants > 20


@pytest.mark.parametrize("examples", [19, 1_000_001])
def test_too_few_or_too_many(examples: int, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=f"Got {examples} examples. Give from 20"):
        write(tmp_path, examples)
