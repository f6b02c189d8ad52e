"""Tests and networks in words, with the names of tokens and columns."""

from typing import Any

from .contexts import Context
from .heads import Head
from .table import Alphabet


def context_in_words(context: Context, alphabet: Alphabet) -> str:
    """What the register of a context holds."""
    match context.kind:
        case "back":
            return "the token before" if context.a == 1 else f"the token {context.a} before"
        case "first" | "last" | "mirror":
            return {"mirror": "the mirrored token"}.get(context.kind, f"the {context.kind} token")
        case "pair":
            return "the two tokens before"
        case "repeat":
            return "an equal token earlier"
        case "balance":
            return f"the sign of #{alphabet.token(context.a)} − #{alphabet.token(context.b)} so far"
    return ""


def _value(context: Context, b: int, alphabet: Alphabet) -> str:
    """The register having a value, as the end of "… where …"."""
    what = context_in_words(context, alphabet)
    match context.kind:
        case "repeat":
            return f"there is {what}" if b else f"there is not {what}"
        case "balance":
            return f"{what} is {'−0+'[b]}"
        case "pair":
            one, two = divmod(b, alphabet.size + 2)
            return f"{what} are {alphabet.token(two)} {alphabet.token(one)}"
    return f"{what} is {alphabet.token(b)}"


def head_in_words(test: Head, context: Context, alphabet: Alphabet) -> str:
    """A test as the condition of a sentence that begins with "if"."""
    kind, (of, a, b), value = test
    say = {
        "token": lambda: alphabet.token(a),
        "both": lambda: f"{alphabet.token(a)} where {_value(context, b, alphabet)}",
        "match": lambda: f"tokens equal to {context_in_words(context, alphabet)}",
        "flag": lambda: f"tokens where {_value(context, a, alphabet)}",
        "any": lambda: "tokens",
        "less": lambda: f"#{alphabet.token(a)} − #{alphabet.token(b)}",
    }[of]()
    match kind:
        case "place" | "from end":
            where = alphabet.column(value) if kind == "place" else f"token {value + 1} from the end"
            if of == "match":
                return f"{where} equals {context_in_words(context, alphabet)}"
            return f"{where} is {say}" if of != "flag" else f"{where} has it that {_value(context, a, alphabet)}"
        case "count" | "exactly":
            return f"the number of {say} {'≥' if kind == 'count' else '='} {value}"
        case "odd":
            return f"the number of {say} is odd"
        case "compare" | "equal":
            return f"{say} {'≥' if kind == 'compare' else '='} {value}"
    side, what = kind.split()
    if what == "at":
        return f"the {side} {say} is at {alphabet.column(value)} or later"
    if what == "is":
        return f"the {side} of the {say} is {alphabet.token(value)}"
    return f"at the {side} {say} {_value(context, value, alphabet)}"


def rule_in_words(tree: Any, context: Context, alphabet: Alphabet, classes: Any, depth: int = 0) -> str:
    """A network as nested sentences, one condition a line."""
    pad = "  " * depth
    if not isinstance(tree, tuple):
        return f"{pad}{classes[tree]}"
    test, yes, no = tree
    inside, outside = (rule_in_words(part, context, alphabet, classes, depth + 1) for part in (yes, no))
    return f"{pad}if {head_in_words(test, context, alphabet)}:\n{inside}\n{pad}else:\n{outside}"


def rule_in_a_line(tree: Any, context: Context, alphabet: Alphabet, classes: Any) -> str:
    """A network as one sentence, with brackets around what follows a test."""
    if not isinstance(tree, tuple):
        return str(classes[tree])
    inside, outside = (
        f"({text})" if isinstance(part, tuple) else text
        for part, text in ((part, rule_in_a_line(part, context, alphabet, classes)) for part in tree[1:])
    )
    return f"if {head_in_words(tree[0], context, alphabet)} then {inside} else {outside}"
