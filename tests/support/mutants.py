"""Files changed at random, and what a reader says of them."""

import json

import numpy as np

import steerax as sx

STRANGE = (None, -1, 2.5, "x", [], {}, [[1], [2, 3]], 10**30, True, float("nan"), "é" * 2000)


def changed(content, rng, is_json=False):
    """Bytes changed, cut out, doubled or put in; or, of JSON, a value replaced."""
    if is_json and rng.random() < 0.6:
        return json.dumps(changed_json(json.loads(content), rng)).encode()
    text = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at, kind = int(rng.integers(len(text) + 1)), rng.integers(5)
        if kind == 0 and at < len(text):
            text[at] = rng.integers(256)
        elif kind == 1:
            del text[at : at + int(rng.integers(1, 40))]
        elif kind == 2:
            text[at:at] = text[: int(rng.integers(1, 40))]
        elif kind == 3:
            text[at:at] = rng.integers(0, 256, int(rng.integers(1, 9)), dtype=np.uint8).tobytes()
        else:
            text = text[:at]
    return bytes(text)


def changed_json(content, rng):
    """The content with one value replaced, somewhere inside."""
    place = content
    while isinstance(place, dict | list) and place:
        key = rng.choice(list(place)) if isinstance(place, dict) else int(rng.integers(len(place)))
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.7:
            place = place[key]
        else:
            place[key] = STRANGE[rng.integers(len(STRANGE))]
            break
    return content


def refusal(read, *arguments, **options):
    """The sentence with which something is refused, or `None`."""
    try:
        read(*arguments, **options)
    except sx.SteeraxError as error:
        return str(error)
    return None
