"""Tables: what is known by name of builtins, of libraries, and of special methods."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping

__all__ = [
    "AT_ONCE",
    "AUTOMAGIC",
    "BUILTINS",
    "COMPARING",
    "EAGER",
    "HARMLESS",
    "HASHING",
    "HOLDERS",
    "KINDS",
    "LAST",
    "LAZY",
    "MISSING",
    "NOT_BY_OPERATORS",
    "OF_CONTAINERS",
    "PASSING",
    "SEVERAL",
    "SWALLOWING",
    "TAME",
    "USED_BY",
    "words",
]


def words(text: str) -> frozenset[str]:
    """Give the words of a text."""
    return frozenset(text.split())


BUILTINS = frozenset(dir(builtins)) | words(
    """
    display get_ipython exit quit __IPYTHON__ __name__ __builtins__ __builtin__ __doc__ __package__ __loader__ __spec__
    """
)
LAST = re.compile(r"_{1,3}|_i{1,3}|_i?\d+|_[iod]h|In|Out|_exit_code")
"""Names of IPython for what was typed and shown last."""
OF_CONTAINERS = words(
    """
    add append appendleft clear copy count difference discard elements extend extendleft fromkeys get index insert
    intersection items keys most_common move_to_end pop popitem popleft remove reverse rotate setdefault sort union
    update values __getitem__ __init__ __setitem__
    """
)
COMPARING = words("count difference index intersection remove sort union")
"""Those that compare the elements."""
SEVERAL = words("update extend extendleft union __init__")
"""Those that put in the elements of what they are given."""
LAZY = words(
    """
    FunctionTransformer Process SimpleNamespace Thread Timer cache cached_property classmethod contextmanager count
    cycle defaultdict field filter groupby lru_cache map namedtuple partial partialmethod property singledispatch
    starmap staticmethod takewhile dropwhile vectorize wraps total_ordering dataclass njit jit
    """
)
"""Functions and classes that keep what may run later."""
EAGER = words("Counter OrderedDict deque dict frozenset list set tuple")
"""Containers that take the elements of what they are made of."""
HASHING = words("Counter OrderedDict dict frozenset set")
"""Those that ask for the hashes of their elements."""
PASSING = words("chain enumerate iter reversed zip")
"""Iterators over what they are given."""
HOLDERS = LAZY | EAGER | PASSING | {"ChainMap"}
"""Functions that hold their arguments and call none."""
AT_ONCE = words(
    """
    agg aggregate all any apply applymap assign brentq curve_fit filter fsolve groupby map max min minimize odeint
    pipe quad reduce root sorted solve_ivp submit sum transform
    """
)
"""Functions that keep no function that they are given."""
SWALLOWING = words("suppress raises assertRaises assertRaisesRegex ExitStack AsyncExitStack")
"""Context managers behind whose exceptions the code goes on."""
MISSING = words("NameError Exception BaseException")
"""Exceptions that are raised where a name is missing."""
TAME = frozenset(name for name in BUILTINS if name[0].isupper()) | words(
    """
    ABC ABCMeta NamedTuple Generic Protocol TypedDict bool bytes dict float frozenset int list object set str tuple type
    OrderedDict Counter defaultdict deque
    """
)
"""Bases that call only special methods."""
HARMLESS = words(
    """
    alias autoawait autocall automagic autoreload autosave bookmark cat cd clear code_wrap colors conda config
    connect_info cp debug dhist dirs doctest_mode env gui hist history killbgscripts ldir less lf lk ll load load_ext
    loadpy logoff logon logstart logstate logstop ls lsmagic lx magic mamba man matplotlib micromamba mkdir more mv
    notebook pdb pip popd pprint precision psearch pushd pwd pycat qtconsole quickref rehashx reload_ext rep rm
    rmdir save set_env subshell sx system tb unalias unload_ext uv watermark who who_ls whos xmode !
    """
)
"""Line magics that touch no names of the notebook."""
AUTOMAGIC = HARMLESS | words("aimport memit pdef pdoc pfile pinfo prun psource pylab reset run store time timeit xdel")
"""Line magics that are called without a sign, where the line is the whole cell and no name is called so."""
KINDS: Mapping[str, str] = {
    **dict.fromkeys(("property", "cached_property", "setter", "getter", "deleter", "abstractproperty"), "property"),
    **dict.fromkeys(("staticmethod", "abstractstaticmethod"), "static"),
    **dict.fromkeys(("classmethod", "abstractclassmethod", "__init_subclass__", "__class_getitem__"), "class"),
}
"""How a method is bound, by its decorator."""
SHOWN = words("__repr__ __str__ __format__ __len__ __dir__")
USED_BY: Mapping[str, frozenset[str]] = {
    "with": words("__enter__ __exit__ __aenter__ __aexit__ __await__"),
    "iter": words("__iter__ __next__ __getitem__ __len__ __aiter__ __anext__ __length_hint__ __reversed__"),
    "item": words("__getitem__ __setitem__ __delitem__ __missing__ __class_getitem__"),
    "attr": words("__get__ __set__ __delete__"),
    "truth": words("__bool__ __len__"),
    "in": words("__contains__"),
    "spread": words("keys __getitem__ __iter__ __len__"),
    "show": SHOWN,
    "display": SHOWN
    | words(
        """
        _ipython_display_ _repr_html_ _repr_javascript_ _repr_jpeg_ _repr_json_ _repr_latex_ _repr_markdown_
        _repr_mimebundle_ _repr_pdf_ _repr_png_ _repr_pretty_ _repr_svg_
        """
    ),
}
"""Special methods that operations run; another one runs any that is not named here."""
NOT_BY_OPERATORS = words(
    """
    __init__ __new__ __post_init__ __init_subclass__ __set_name__ __call__ __getattr__ __getattribute__ __setattr__
    __delattr__ __del__ __reduce__ __reduce_ex__ __getstate__ __setstate__ __slots__ __doc__ __module__
    __copy__ __deepcopy__ __dict__ __annotations__
    """
).union(*USED_BY.values())
