"""The conventions of scikit-learn for a classifier, which neither need nor load it."""

import inspect
import sys
from typing import Any

from ..._errors import ConfigurationError, SteeraxError


def _not_fitted(sentence: str) -> SteeraxError:
    """An error that is also the one scikit-learn expects, where that is loaded."""
    known = sys.modules.get("sklearn.exceptions")
    return type("NotFittedError", (SteeraxError, known.NotFittedError if known else AttributeError), {})(sentence)


class Estimator:
    """Arguments are what `__init__` takes; a classifier that was fitted has a `tree_`."""

    _estimator_type = "classifier"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments."""
        return {
            name: getattr(self, name) for name in inspect.signature(type(self).__init__).parameters if name != "self"
        }

    def set_params(self, **params: Any) -> "Estimator":
        """Change arguments. **Raises:** `ConfigurationError` for an unknown one."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ConfigurationError(f"Invalid parameter {name!r}; there are {', '.join(known)}.")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = {
            n: v for n, v in self.get_params().items() if v is not defaults[n].default and v != defaults[n].default
        }
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in changed.items())})"

    def __sklearn_tags__(self):
        """What scikit-learn asks of an estimator; only scikit-learn calls it."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(categorical=True, string=True, allow_nan=True),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "tree_")

    def _fitted(self) -> None:
        if not hasattr(self, "tree_"):
            raise _not_fitted(f"This {type(self).__name__} is not fitted yet; call fit first.")
