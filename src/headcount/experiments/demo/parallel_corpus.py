"""A parallel corpus made by rules, for a demonstration without any download: what is said in English, in German.

The sentences count, buy, pay, add, and tell dates and times of day. They cannot be translated word by word: German
says the units before the tens (twenty-three, dreiundzwanzig) and half past three as half four (halb vier); its
finite verb stands second, first in a question, last after "dass"; its articles follow gender and case.
"""

import random
import re
from pathlib import Path

from headcount.errors import BadRecipe

LONGEST = 14  # words of an English sentence
Pair = tuple[str, str]  # English and German


def _table(text: str) -> list[list[str]]:
    return [[" ".join(cell.split()) for cell in row.split("/")] for row in text.split(";")]


_SMALL = _table("""zero/null; one/eins; two/zwei; three/drei; four/vier; five/fünf; six/sechs; seven/sieben; eight/acht;
    nine/neun; ten/zehn; eleven/elf; twelve/zwölf; thirteen/dreizehn; fourteen/vierzehn; fifteen/fünfzehn;
    sixteen/sechzehn; seventeen/siebzehn; eighteen/achtzehn; nineteen/neunzehn; twenty/zwanzig; thirty/dreißig;
    forty/vierzig; fifty/fünfzig; sixty/sechzig; seventy/siebzig; eighty/achtzig; ninety/neunzig""")
_FIRST = dict(_table("one/first; two/second; three/third; five/fifth; eight/eighth; nine/ninth; twelve/twelfth"))
_ERST = {1: "erst", 3: "dritt", 7: "siebt", 8: "acht"}
_CLOCK = _table("""{now} o'clock/{hour} Uhr; five past {now}/fünf nach {now}; ten past {now}/zehn nach {now};
    a quarter past {now}/Viertel nach {now}; twenty past {now}/zwanzig nach {now};
    twenty-five past {now}/fünf vor halb {next}; half past {now}/halb {next};
    twenty-five to {next}/fünf nach halb {next}; twenty to {next}/zwanzig vor {next};
    a quarter to {next}/Viertel vor {next}; ten to {next}/zehn vor {next}; five to {next}/fünf vor {next}""")
# By the slots that a row fills, each in English and German. Forms for I, for he and she, for we and they: a|b|c.
_WORDS = {
    "person": """I/ich; he/er; she/sie; we/wir; they/sie; Anna/Anna; Paul/Paul; my brother/mein Bruder;
        my sister/meine Schwester; her uncle/ihr Onkel; the children/die Kinder; my parents/meine Eltern""",
    "will": "will/werde|wird|werden; must/muss|muss|müssen; can/kann|kann|können; should/sollte|sollte|sollten",
    "buy bought": """buy/kaufen/bought/gekauft; sell/verkaufen/sold/verkauft; bring/bringen/brought/gebracht;
        find/finden/found/gefunden; draw/zeichnen/drew/gezeichnet; choose/aussuchen/chose/ausgesucht""",
    "egg eggs": """egg/das {nth}e Ei/eggs/Eier; apple/den {nth}en Apfel/apples/Äpfel; hat/den {nth}en Hut/hats/Hüte;
        pear/die {nth}e Birne/pears/Birnen; letter/den {nth}en Brief/letters/Briefe; book/das {nth}e Buch/books/Bücher;
        coin/die {nth}e Münze/coins/Münzen; flower/die {nth}e Blume/flowers/Blumen;
        glass/das {nth}e Glas/glasses/Gläser; key/den {nth}en Schlüssel/keys/Schlüssel""",
    "rise rose has": """get up/aufstehen/got up/aufgestanden//bin|ist|sind;
        come home/nach Hause kommen/came home/nach Hause gekommen//bin|ist|sind;
        call the doctor/den Arzt anrufen/called the doctor/den Arzt angerufen//habe|hat|haben""",
    "film": "film/der Film; concert/das Konzert; meeting/die Sitzung; lecture/der Vortrag; game/das Spiel",
    "begin up": "begin/beginnt//; end/endet//; start/fängt//an-; stop/hört//auf-",
    "train": "train/der Zug; bus/der Bus; ferry/die Fähre; ship/das Schiff",
    "leave off": "leave/fährt//ab-; arrive/kommt//an-",
    "coat to_coat": """coat/der Mantel//den Mantel; table/der Tisch//den Tisch; lamp/die Lampe//die Lampe;
        jacket/die Jacke//die Jacke; bicycle/das Fahrrad//das Fahrrad; tent/das Zelt//das Zelt""",
    "euros": "{n} euros/{n} Euro; {few} euros and {cents} cents/{few} Euro {cents}",
    "town": "town/die Stadt; island/die Insel; valley/das Tal; country/das Land",
    "Friday": """Monday/Montag; Tuesday/Dienstag; Wednesday/Mittwoch; Thursday/Donnerstag; Friday/Freitag;
        Saturday/Samstag; Sunday/Sonntag""",
    "March": """January/Januar; February/Februar; March/März; April/April; May/Mai; June/Juni; July/Juli;
        August/August; September/September; October/Oktober; November/November; December/Dezember""",
    "say": "I know/ich weiß; she says/sie sagt; they write/sie schreiben; he believes/er glaubt; it is true/es stimmt",
    "ahead": """/; tomorrow/morgen; the day after tomorrow/übermorgen; on {Friday}/am {Friday};
        in {few} days/in {few} Tagen; on the {third} of {March}/am {third}en {March}""",
    "ago": """/; yesterday/gestern; the day before yesterday/vorgestern; last {Friday}/letzten {Friday};
        {few} days ago/vor {few} Tagen; on the {third} of {March}/am {third}en {March}""",
    "once": """/; last month/letzten Monat; {few} weeks ago/vor {few} Wochen; {few} years ago/vor {few} Jahren;
        in {year}/im Jahr {year}; on the {third} of {March} {year}/am {third}en {March} {year}""",
}
_ROWS = {slots: _table(text) for slots, text in _WORDS.items()}
_WHO = {"I": 0} | dict.fromkeys(("we", "they", "the children", "my parents"), 2)
# English subject, verb, rest, and the verb and subject of the question; German subject, finite verb, middle, end; when.
# A particle ends in a hyphen: it is one word with a verb behind it.
_FRAMES = _table("""{person}/{will} {buy}/{n} {eggs}/{will} {person} {buy}/{person}/{will}/{n} {eggs}/{buy}/{ahead};
    {person}/{bought}/{n} {eggs}/did {person} {buy}/{person}/habe|hat|haben/{n} {eggs}/{bought}/{once};
    {person}/{bought}/the {nth} {egg}/did {person} {buy}/{person}/habe|hat|haben/{egg}/{bought}/{ago};
    {person}/{will} {rise}/at {three}/{will} {person} {rise}/{person}/{will}/um {three}/{rise}/{ahead};
    {person}/{rose}/at {three}/did {person} {rise}/{person}/{has}/um {three}/{rose}/{ago};
    {person}/paid/{euros} for the {coat}/did {person} pay/
        {person}/habe|hat|haben/{euros} für {to_coat}/bezahlt/{once};
    the {coat}/costs/{euros}/does the {coat} cost/{coat}/kostet/{euros}//;
    the {film}/{begin}s/at {three}/does the {film} {begin}/{film}/{begin}/um {three}/{up}/{ahead};
    the {train}/{leave}s/at {three}/does the {train} {leave}/{train}/{leave}/um {three}/{off}/{ahead};
    the {film}/takes place/in room {n}/does the {film} take place/{film}/findet/in Raum {n}/statt-/{ahead};
    {person}/was|was|were born/on the {third} of {March} {year}/was|was|were {person} born/
        {person}/wurde|wurde|wurden/am {third}en {March} {year}/geboren/;
    {person}/am|is|are/{few} years old/am|is|are {person}/{person}/bin|ist|sind/{few} Jahre/alt/;
    {person}/live|lives|live/on the {nth} floor/do|does|do {person} live/
        {person}/wohne|wohnt|wohnen/im {nth}en Stock//;
    the {town}/has/{many} inhabitants/does the {town} have/{town}/hat/{many} Einwohner//;
    today/is/the {third} of {March} {year}/is today/heute/ist/der {third}e {March} {year}//;
    {a} plus {b}/equals/{sum}/does {a} plus {b} equal/{a} plus {b}/ergibt/{sum}//;
    {sum} minus {b}/equals/{a}/does {sum} minus {b} equal/{sum} minus {b}/ergibt/{a}//""")


def number(n: int) -> Pair:
    """The words of a number from 0 to 999999: `("twenty-three", "dreiundzwanzig")`."""
    if n <= 20:
        return _SMALL[n][0], _SMALL[n][1]
    if n < 100:
        tens, units = divmod(n, 10)
        english, german = _SMALL[18 + tens]
        return (f"{english}-{_SMALL[units][0]}", f"{_before(units)}und{german}") if units else (english, german)
    size, hundred, hundert = (100, "hundred", "hundert") if n < 1000 else (1000, "thousand", "tausend")
    first, rest = divmod(n, size)
    english, german = f"{number(first)[0]} {hundred}", (_before(first) if first > 1 else "") + hundert
    if rest:  # hundertzwei, but tausendeinhundertzwei
        english += (" and " if rest < 100 else " ") + number(rest)[0]
        german += ("ein" if 100 <= rest < 200 else "") + number(rest)[1]
    return english, german


def _before(n: int) -> str:
    return number(n)[1].removesuffix("s" if n % 100 == 1 else "")  # "ein" before a word, not "eins"


def ordinal(n: int) -> Pair:
    """The words of an ordinal from 1 to 99, the German without its ending: `("third", "dritt")`."""
    english, german = number(n)
    head, hyphen, last = english.rpartition("-")
    last = _FIRST.get(last, f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return head + hyphen + last, _ERST.get(n, german + ("t" if n < 20 else "st"))


def year(n: int) -> Pair:
    """The words of a year from 1100 to 2099: `("nineteen eighty-four", "neunzehnhundertvierundachtzig")`."""
    (century, jahrhundert), rest = number(n // 100), n % 100
    english = f"{century} {('oh ' if rest < 10 else '') + number(rest)[0] if rest else 'hundred'}"
    german = f"{jahrhundert}hundert{number(rest)[1] if rest else ''}"
    return number(n)[0] if 2000 <= n < 2010 else english, german if n < 2000 else number(n)[1]


def clock(hour: int, minute: int) -> Pair:
    """The words of an hour from 1 to 12 and the five minutes last passed: `("half past three", "halb vier")`."""
    (english, german), now, after = _CLOCK[minute // 5], number(hour), number(hour % 12 + 1)
    return english.format(now=now[0], next=after[0]), german.format(now=now[1], next=after[1], hour=_before(hour))


def _slots(dice: random.Random) -> dict[str, Pair]:
    """Words for every slot, those that the sentence will not need too."""
    slots: dict[str, Pair] = {}
    for names, rows in _ROWS.items():
        row = dice.choice(rows)
        slots |= zip(names.split(), zip(row[::2], row[1::2], strict=True), strict=True)
    for name, most in {"few": 99, "n": dice.choice((20, 99, 999)), "many": 10 ** dice.randint(3, 6) - 1}.items():
        count = dice.randint(2, most)
        slots[name] = number(count + (count % 100 == 1))  # no plural after "one"
    a, b, last = dice.randint(0, 99), dice.randint(0, 99), 28 if slots["March"][0] == "February" else 30
    slots |= {"a": number(a), "b": number(b), "sum": number(a + b), "cents": number(dice.randint(10, 99))}
    slots |= {"nth": ordinal(dice.randint(1, 99)), "third": ordinal(dice.randint(1, last))}
    return slots | {"three": clock(dice.randint(1, 12), dice.randint(0, 59)), "year": year(dice.randint(1900, 2025))}


def _fill(cell: str, words: dict[str, str], who: int) -> str:
    """The cell with its slots filled, twice as a word can have slots too, and the forms for the person chosen."""
    forms = (word.split("|") for word in cell.format_map(words).format_map(words).split())
    return " ".join(form[who % len(form)] for form in forms)


def _pair(dice: random.Random) -> Pair:
    slots, frame = _slots(dice), dice.choice(_FRAMES)
    who = _WHO.get(slots["person"][0], 1)
    english, german = ({slot: pair[language] for slot, pair in slots.items()} for language in (0, 1))
    subject, says, rest, asks, when = (_fill(cell, english, who) for cell in (*frame[:4], frame[8]))
    topic, finite, middle, end, then = (_fill(cell, german, who) for cell in frame[4:])
    (say, sagen), last = slots["say"], f"{end} {finite}".replace("- ", "")
    orders = [
        (f"{subject} {says} {rest} {when}.", f"{topic} {finite} {then} {middle} {end}."),
        (f"{asks} {rest} {when}?", f"{finite} {topic} {then} {middle} {end}?"),
        (f"{say} that {subject} {says} {rest} {when}.", f"{sagen}, dass {topic} {then} {middle} {last}."),
        (f"{when} {subject} {says} {rest}.", f"{then} {finite} {topic} {middle} {end}."),
    ][: 4 if when else 3]
    said, gesagt = (re.sub(r"[ -]+(?=[.?])", "", " ".join(side.split())) for side in dice.choice(orders))
    return said[0].upper() + said[1:], gesagt[0].upper() + gesagt[1:]


def write(directory: Path, examples: int = 8000, seed: int = 0) -> tuple[Path, Path, Path, Path]:
    """Write the corpus, a sentence a line, no English one twice; the same number and seed give the same bytes.

    Args:
        directory: Where to write; made if it is not there. Files of these names are overwritten.
        examples: Number of training pairs; a twentieth as many, rounded down, are for validation.
        seed: Of the corpus.

    Returns:
        `train.en`, `train.de`, `validation.en` and `validation.de`.
    """
    if not 20 <= examples <= 1_000_000:
        raise BadRecipe(f"Got {examples} examples. Give from 20, one for validation, to 1000000.")
    directory.mkdir(parents=True, exist_ok=True)
    dice, pairs = random.Random(seed), dict[str, str]()
    while len(pairs) < examples + examples // 20:
        sentence, translation = _pair(dice)
        if len(sentence.split()) <= LONGEST:
            pairs[sentence] = translation
    english, german = list(pairs), list(pairs.values())
    paths = directory / "train.en", directory / "train.de", directory / "validation.en", directory / "validation.de"
    texts = english[:examples], german[:examples], english[examples:], german[examples:]
    for path, sentences in zip(paths, texts, strict=True):
        path.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8")
    return paths
