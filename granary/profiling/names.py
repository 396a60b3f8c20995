"""What a column's name says: whether it may identify a row, and whether it is about a person."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

KEY = re.compile(r"(^|_)(id|uuid|guid|key|code|number|no|nr|isbn|ean|sku|upc)$")

CODE = re.compile(
    r"(^|_)(phone|telephone|tel|mobile|cell|fax|zip|postcode|post_?code|postal_code|plz|iban|bic|ssn|ean|isbn|issn|upc|gtin"
    r"|sku|vat|card_number|credit_card|passport|licen[cs]e|routing)(_\d+|_?no|_?nr|_?number|_?code|_?id)?$"
)
"""What is written in digits and is not a number: nobody adds up phone numbers, and the next one may begin with 0."""
SHARE = re.compile(
    r"(^|_)(percent|percentage|pct|rate|ratio|share|avg|average|mean|median|lat|latitude|lon|lng|longitude|year|age"
    r"|temperature|temp|humidity|rating|score|rank|level|on_hand|in_stock)s?$"
    r"|(^|_)(month|week|weekday|hour|quarter)$"
    r"|(^|_)(avg|average|mean|median|percent|pct|ratio|temperature|balance|cumulative|running_total|ytd|mtd|stock)s?(_|$)"
    r"|^(rate|exchange_rate|interest_rate|tax_rate|min|max|minimum|maximum|day_of|week_of)_"
    r"|(^|_)unit_(price|cost)(_|$)|(price|cost|amount|revenue|sales)s?_per_"
)
"""Numbers that nobody adds up, or not over days: shares, means, extremes, prices of a unit, places, balances."""
FREE_TEXT = re.compile(
    r"(^|_)(comments?|notes?|remarks?|descr?|descriptions?|text|message|body|title|subject|summary|details?|reason"
    r"|review|feedback|bio|address)(_\d+)?$"
)
NO_ID = re.compile(
    r"(^|_)(paid|prepaid|unpaid|valid|invalid|bid|grid|void|avoid|fluid|solid|rapid|liquid|acid|hybrid|covid|android|mid"
    r"|kid|lid|said|raid|aid|monkey|turkey|whiskey|hockey|jockey|donkey)$"
)

IDENTIFIER = re.compile(
    r"(^|_)(e?_?mail|email_address|phone|telephone|tel|mobile|cell|fax|ssn|social_security|passport|iban|tax_id"
    r"|card_number|credit_card|licen[cs]e_number|ip|ip_address"
    r"|(first|last|full|given|family|sur|middle|maiden|nick|user|login|contact|customer|member|patient|guest)s?_?name"
    r"|surname)(_\d+|_?no|_number|_address)?$"
)
DEMOGRAPHIC = re.compile(
    r"(^|_)(birth\w*|dob|born(_on)?|gender|sex|religion|ethnicity|nationality|marital_status|salary|income"
    r"|street\w*|address\w*|home_town)$"
)
PERSON = re.compile(
    r"(^|_)(customer|member|user|person|people|employee|staff|patron|client|contact|borrower|guest|patient|rider|driver"
    r"|subscriber|visitor|student|teacher|passenger|reader|donor)s?$"
)

ASCII = {"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L", "đ": "d"}


def snake(text: str) -> str:
    """Return a header or file name in lower snake case with ASCII letters; empty if nothing of it is left."""
    plain = unicodedata.normalize("NFKD", "".join(ASCII.get(letter, letter) for letter in text))
    plain = re.sub(r"(?<=\w)['\u2019](?=\w)", "", plain).encode("ascii", "ignore").decode()
    plain = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", plain))
    return re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")


def looks_like_key(name: str) -> bool:
    """Return whether a column of this name usually identifies something: rental_id, isbn, account_no, l_orderkey."""
    name = snake(name)
    return KEY.search(name) is not None or (name.endswith(("id", "key")) and NO_ID.search(name) is None)


def is_code(name: str) -> bool:
    """Return whether a column of this name holds digits that are no number: a phone, a postcode, an ISBN."""
    return CODE.search(snake(name)) is not None


def is_share(name: str) -> bool:
    """Return whether a column of this name holds numbers that nobody adds up: shares, means, balances, places."""
    return SHARE.search(snake(name)) is not None


def is_free_text(name: str) -> bool:
    """Return whether a column of this name holds what people write: a comment, a title."""
    return FREE_TEXT.search(snake(name)) is not None


def personal(name: str, table: str = "") -> Literal["identifier", "demographic"] | None:
    """Guess by its name whether a column holds personal data, and which; a column `name` does in a table of persons.

    identifier: it names or reaches one person. demographic: it says something about one.
    """
    name = snake(name)
    if IDENTIFIER.search(name) or (name == "name" and PERSON.search(snake(table))):
        return "identifier"
    return "demographic" if DEMOGRAPHIC.search(name) else None
