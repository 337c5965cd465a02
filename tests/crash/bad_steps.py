"""Functions of steps whose outcome a log cannot keep; worker processes import them by name."""


def give_a_set() -> object:
    return {"found": {1, 2}}


def give_nan() -> object:
    return float("nan")


def give_half_a_character() -> object:
    return ["\ud800"]


def give_too_much() -> object:
    return "x" * 5000


def raise_half_a_character() -> object:
    raise ValueError("half of it: \ud800")
