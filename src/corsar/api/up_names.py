"""Words by which the columns of a log are known, in several tongues, and how a name is compared with them."""

from __future__ import annotations

import re
import unicodedata

from corsar.sources.columns import CATEGORY_NAMES, NAMES

ID_ENDS = ("id", "nr", "no", "nummer", "number", "key", "code")
WORDS: dict[str, tuple[str, ...]] = {
    "time_ms": (*NAMES["time_ms"], "datum", "zeit", "zeitpunkt", "zeitstempel", "erstellt_am", "uhrzeit", "when", "day", "tag",
                "fecha", "hora", "horodatage", "moment", "position", "step", "order", "seq", "sequence"),
    "lat_deg": (*NAMES["lat_deg"], "breite", "breitengrad", "latitud", "y"),
    "lon_deg": (*NAMES["lon_deg"], "long", "laenge", "laengengrad", "longitud", "x"),
    "split": NAMES["split"],
    "session_id": (*NAMES["session_id"], "sitzung", "sitzungs_id", "sitzung_id", "such_id", "visit_id", "sesion"),
    "label": (*NAMES["label"], "geklickt", "klick"),
    "kind": (*NAMES["kind"], "event", "type", "typ", "art", "action", "aktion", "ereignis", "verb", "kanal", "quelle", "source",
             "bereich", "evento", "accion", "tipo"),
    "query": (*NAMES["query"], "suche", "suchbegriff", "suchwort", "suchwoerter", "suchtext", "suchanfrage", "anfrage",
              "stichwort", "search", "terms", "recherche", "requete", "busqueda", "consulta"),
    "user_id": (*NAMES["user_id"], "customer", "client", "client_id", "visitor", "member", "account", "account_id", "person",
                "buyer", "kunde", "kunden", "kunden_id", "nutzer", "benutzer", "besucher", "utilisateur", "usuario", "cliente"),
    "item_id": (*NAMES["item_id"], "product", "article", "document", "doc", "video", "movie", "film", "song", "track", "page",
                "url", "isbn", "ean", "parent_asin", "artikel", "produkt", "ware", "titel_id", "venue", "venue_id", "place",
                "place_id", "poi", "location_id", "ort", "ort_id", "produit", "producto", "articulo"),
    "text": (*NAMES["text"], "titel", "bezeichnung", "beschreibung", "produktname", "nom", "nombre", "titulo"),
}  # fmt: skip
STEMS: dict[str, tuple[str, ...]] = {
    "time_ms": ("time", "zeit", "datum", "date"),
    "kind": ("event", "ereignis", "aktion"),
    "query": ("query", "suchbegr", "suchwort", "suchtext", "anfrage", "search"),
    "user_id": ("user", "kunde", "nutzer", "customer", "visitor", "usuario"),
    "item_id": ("item", "artikel", "produkt", "product", "article"),
    "text": ("title", "titel", "bezeichn", "beschreib", "descr"),
    "session_id": ("session", "sitzung"),
}
SEARCHES = ("search", "such", "query", "find", "recherche", "busq", "busc")  # in the word of a kind: it is a search
SHOWN = ("impression", "shown", "exposure", "display", "einblend", "angezeigt")  # in it: it was shown and not taken
CATEGORIES = (*CATEGORY_NAMES, "kategor", "marke", "genre", "warengruppe", "abteilung", "hersteller", "autor")


def plain_name(name: str) -> str:
    """The name in small letters, its words joined by underscores, without accents."""
    name = re.sub(r"(?<=[a-zß-ÿ0-9])(?=[A-ZÄÖÜ])", "_", name.strip())
    for umlaut, letters in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        name = name.lower().replace(umlaut, letters)
    name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", name).strip("_")


def surest(role: str, column: str) -> int:
    """Where a column stands among those that have a name for the same thing."""
    name, words = plain_name(column), WORDS[role]
    return words.index(name) if name in words else len(words) + (name.rpartition("_")[2] not in ID_ENDS)


def whole_name(role: str, column: str) -> bool:
    """Whether the name is one of the words."""
    return plain_name(column) in WORDS[role]


def part_of_name(role: str, column: str) -> bool:
    """Whether a part of the name is one of the words."""
    return any(len(word) > 1 and word in WORDS[role] for word in plain_name(column).split("_"))


def stem_of_name(role: str, column: str) -> bool:
    """Whether the name holds one of the stems."""
    return any(stem in plain_name(column) for stem in STEMS.get(role, ()))


RULES = (whole_name, part_of_name, stem_of_name)  # the surest first


def is_named(role: str, column: str) -> bool:
    """Whether the column's name says that it is this."""
    return any(rule(role, column) for rule in RULES)


def is_search(value: str) -> bool:
    """Whether this word for a kind of events means a search."""
    return any(word in value.lower() for word in SEARCHES)
