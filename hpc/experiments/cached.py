"""A property that is computed when it is first used."""


class cached:  # noqa: N801 # a decorator
    """Like functools.cached_property, whose lock (until Python 3.12) takes three times as long as the rest."""

    def __init__(self, method):
        self.method = method

    def __get__(self, instance, owner=None):
        # An instance's own attribute comes before this one, so the method is called only once.
        value = instance.__dict__[self.method.__name__] = self.method(instance)
        return value
