"""A forked kernel is as fresh as one that was started: the same notebooks say the same in both.

Each notebook runs three times, in one folder: in a kernel of its own, in one forked from a template that is new, and in
one from a template that has learned from it. Outputs, results and what the processes themselves printed are equal but
for :data:`NORMAL`. What a kernel can know of itself, :data:`PROBE`, is equal but for :data:`DIFFERENT`.

``NBFLOW_TEST_KERNEL`` names the interpreter of another environment; the notebooks run there if it has what they import.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbflow import early
from nbflow.kernels import LocalKernels
from nbflow.kernels.warm.templates import SUPPORTED
from nbflow.notebooks.runner import NotebookRunner
from nbflow.source import read_notebook
from nbflow.steps import KernelStart, NotebookStep
from nbflow.task import Context, Places, Task

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="kernels are forked on Linux")

NORMAL = (
    (r"\bat 0x[0-9a-f]+", "at 0x", "where an object is"),
    (r"\(pid=\d+\)", "(pid=)", "the warning of Python 3.12 about forks names the process"),
    (r"ipykernel_\d+", "ipykernel_", "the files that cells seem to stand in are named after the process"),
    (r"\[\d\d:\d\d<\d\d:\d\d, .*?\]", "[]", "how long tqdm waited"),
    (r"\b[0-9a-f]{32}\b", "id", "widgets and communication have random ids"),
    (
        r"Task was destroyed but it is pending!\n(task: .*\n)?",
        "",
        "a fork of a kernel may collect its tasks",
    ),
)
"""What is not compared: pattern, what stands for it, and why it may differ."""


@dataclass(frozen=True)
class Story:
    """A notebook that is run cold and warm."""

    name: str
    cells: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """Modules without which it cannot run."""
    files: dict[str, str] = field(default_factory=dict)
    """Files beside it."""
    environment: dict[str, str] = field(default_factory=dict)
    says: str = ""
    """What its outputs contain: that it did what it is about."""
    fails: str = ""
    """The exception that ends it."""
    cold: str = ""
    """Why its kernel cannot be forked."""
    quick: bool = False
    step: dict[str, Any] = field(default_factory=dict)


def story(name: str, text: str, **more: Any) -> Story:
    """Give a story: its cells stand between lines of ``# %%``, and ``needs`` is a line of names."""
    cells = textwrap.dedent(text).strip("\n").split("\n# %%\n")
    return Story(name, tuple(cells), tuple(more.pop("needs", "").split()), **more)


STORIES = (
    story(
        "numpy and threads",
        """
        import numpy as np, threading, hashlib
        from concurrent.futures import ThreadPoolExecutor
        # %%
        a = np.arange(640_000, dtype=float).reshape(800, 800) % 7
        b = a @ a
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda n: float((a @ a)[n, n]), range(8)))
        print(b.sum(), made, threading.main_thread() is threading.current_thread())
        # %%
        np.linalg.eigvalsh(a[:50, :50] + a[:50, :50].T).round(6)
        # %%
        np.seterr(divide='warn'); np.array([1.0]) / 0
        # %%
        np.random.seed(3); print(np.random.rand(3), np.random.default_rng(3).normal(size=2))
        np.get_printoptions()
        """,
        needs="numpy",
        says="RuntimeWarning: divide by zero",
    ),
    story(
        "pandas",
        r"""
        import pandas as pd
        import io
        # %%
        frame = pd.read_csv(io.StringIO('a,b,c\n1,x,2026-01-05\n2,y,2026-02-01\n5,x,2026-03-02'), parse_dates=['c'])
        display(frame)
        frame.describe()
        # %%
        frame.groupby('b').agg({'a': ['sum', 'mean']})
        # %%
        from IPython.display import HTML
        HTML(frame.to_html())
        # %%
        pd.DataFrame([range(40)] * 70)
        # %%
        frame.info()
        pd.set_option('display.max_rows', 2)
        frame
        # %%
        part = frame[frame.a > 1]
        print(frame.style.format({'a': '{:.1f}'}).to_html(uuid='x')[-300:])
        frame.nope
        """,
        needs="pandas jinja2",
        says="<table",
        fails="AttributeError",
    ),
    story(
        "a plot",
        """
        import matplotlib.pyplot as plt
        # %%
        plt.plot([1, 3, 2])
        # %%
        plt.figure(figsize=(1, 1)).text(.5, .5, 'two')
        plt.show()
        print('after', plt.isinteractive(), plt.get_fignums(), plt.get_backend())
        """,
        needs="matplotlib matplotlib_inline",
        says="image/png",
        quick=True,
    ),
    story(
        "plots",
        r"""
        import matplotlib.pyplot as plt, matplotlib, warnings
        # %%
        plt.plot([1, 3, 2])
        plt.title('a')
        # %%
        fig, axes = plt.subplots(1, 2)
        axes[0].imshow([[1, 2], [3, 4]])
        fig2 = plt.figure()
        fig2.text(.5, .5, 'two')
        plt.show()
        print('after')
        # %%
        %matplotlib inline
        %config InlineBackend.figure_format = 'svg'
        matplotlib.rcParams['svg.hashsalt'] = 'x'
        matplotlib.rcParams['svg.fonttype'] = 'none'
        print(matplotlib.get_backend())
        # %%
        %config InlineBackend.figure_format = 'png'
        plt.figure(figsize=(2, 1)).add_subplot().scatter([1, 2], [2, 1])
        fig
        # %%
        plt.text(0, 0, '\u6f22'); plt.show()
        # %%
        for n in range(22):
            plt.figure()
        print(len(plt.get_fignums()))
        plt.close('all')
        # %%
        plt.style.use('ggplot'); plt.bar(['x', 'y'], [1, 2]); print(plt.isinteractive(), plt.get_fignums())
        # %%
        fig
        # %%
        {event: [f.__name__ for f in heard] for event, heard in get_ipython().events.callbacks.items()}
        """,
        needs="matplotlib matplotlib_inline",
        says="image/png",
    ),
    story(
        "plots where the cell chooses how",
        """
        %matplotlib inline
        # %%
        import pandas as pd, numpy as np
        from matplotlib import pyplot
        # %%
        pd.DataFrame({'a': [1, 2], 'b': [2, 1]}).plot()
        # %%
        import matplotlib
        matplotlib.use('agg')
        pyplot.plot([1, 2]); pyplot.show()
        print(matplotlib.get_backend())
        # %%
        pyplot.gcf()
        """,
        needs="matplotlib pandas",
        says="image/png",
    ),
    story(
        "scikit-learn in several processes",
        """
        from sklearn.ensemble import RandomForestClassifier, HistGradientBoostingClassifier
        from sklearn.datasets import load_iris
        from sklearn.model_selection import cross_val_score
        import joblib
        # %%
        x, y = load_iris(return_X_y=True, as_frame=True)
        forest = RandomForestClassifier(20, n_jobs=2, random_state=1).fit(x, y)
        print(forest.score(x, y))
        forest
        # %%
        cross_val_score(RandomForestClassifier(10, random_state=1), x, y, n_jobs=2)
        # %%
        print(HistGradientBoostingClassifier(max_iter=5, random_state=1).fit(x, y).score(x, y))
        # %%
        def twice(n):
            return 2 * n
        print(joblib.Parallel(2)(joblib.delayed(twice)(n) for n in range(4)))
        from sklearn.cluster import KMeans
        KMeans(2, n_init=1, random_state=0).fit_predict(x)[:5]
        # %%
        from joblib.externals.loky import get_reusable_executor
        get_reusable_executor().shutdown(wait=True)
        """,
        needs="sklearn",
        says="RandomForestClassifier",
    ),
    story(
        "processes",
        """
        import multiprocessing as mp, subprocess, sys, os, signal
        # %%
        def square(n):
            return n * n
        for way in ('fork', 'forkserver'):
            with mp.get_context(way).Pool(2) as pool:
                print(way, pool.map(abs, [-1, 2]), pool.map(square, [3]) if way == 'fork' else '')
        # %%
        import operator
        with mp.get_context('spawn').Pool(1) as pool:
            print(pool.map(operator.neg, [1, 2]))
        # %%
        with mp.Manager() as manager:
            shared = manager.dict(a=1)
            child = mp.get_context('fork').Process(target=shared.update, args=({'b': 2},))
            child.start(); child.join(); print(dict(shared), child.exitcode)
        # %%
        from multiprocessing import shared_memory
        block = shared_memory.SharedMemory(create=True, size=10)
        other = shared_memory.SharedMemory(block.name)
        other.buf[0] = 7
        print(block.buf[0])
        other.close(); block.close(); block.unlink()
        # %%
        print(mp.get_start_method(), mp.current_process().name, mp.parent_process(), mp.active_children())
        # %%
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2, mp_context=mp.get_context('fork')) as pool:
            print(list(pool.map(square, range(3))))
        # %%
        print(subprocess.run([sys.executable, '-c', 'print(input())'], input='in', capture_output=True, text=True))
        # %%
        pid = os.fork()
        if pid == 0:
            os._exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        # %%
        try:
            subprocess.run(['sleep', '9'], timeout=0.01)
        except subprocess.TimeoutExpired as problem:
            print(type(problem))
        subprocess.run('false', check=True)
        """,
        says="fork [1, 2] [9]",
        fails="CalledProcessError",
    ),
    story(
        "asyncio",
        """
        import asyncio, contextvars
        # %%
        async def slow(n):
            await asyncio.sleep(0.01)
            return n
        await asyncio.gather(*map(slow, range(4)))
        # %%
        child = await asyncio.create_subprocess_exec('sh', '-c', 'echo a; exit 4', stdout=-1)
        print(await child.communicate(), child.returncode)
        # %%
        print(type(asyncio.get_running_loop()))
        type(asyncio.get_event_loop_policy())
        # %%
        await asyncio.to_thread(lambda: 5)
        # %%
        name = contextvars.ContextVar('name'); name.set(3)
        # %%
        print(name.get(None))
        async with asyncio.Lock() as lock:
            print(lock)
        # %%
        server = await asyncio.start_server(lambda r, w: w.close(), '127.0.0.1', 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        print(await reader.read())
        writer.close(); server.close()
        # %%
        asyncio.run(slow(1))
        """,
        says="None) 4",
        fails="RuntimeError",
    ),
    story(
        "the shell",
        """
        %%bash
        echo one
        ulimit -S -n
        umask
        ps -o pgid= -p $$ | wc -l
        echo two >&2
        # %%
        out = !echo a; echo b
        print(out)
        !echo $HOME $0; tty -s && echo terminal
        # %%
        %%bash --out text
        cat; echo end
        # %%
        text
        # %%
        %env NAME=here
        !echo $NAME
        # %%
        import os
        os.system('echo three; exit 2')
        # %%
        %cd ..
        %pwd
        !ls -d work
        # %%
        %%sh
        exit 7
        """,
        fails="CalledProcessError",
        quick=True,
    ),
    story(
        "widgets",
        """
        import ipywidgets as widgets
        from ipywidgets import interact, Output, VBox
        # %%
        slider = widgets.IntSlider(3)
        display(slider)
        slider
        # %%
        @interact(n=(0, 4))
        def show(n=2):
            print('n is', n)
        # %%
        out = Output()
        display(out)
        with out:
            print('inside')
            display({'a': 1})
        out.outputs
        # %%
        slider.observe(lambda change: print(change['new']), 'value'); slider.value = 5
        # %%
        VBox([slider, widgets.Text('x')])
        """,
        needs="ipywidgets",
        says="application/vnd.jupyter.widget-view+json",
    ),
    story(
        "progress",
        """
        from tqdm.auto import tqdm as auto
        from tqdm import tqdm, trange
        # %%
        for n in auto(range(3), desc='a'):
            pass
        # %%
        import sys
        for n in tqdm(range(3), file=sys.stdout, bar_format='{l_bar}{bar:9}{n_fmt}/{total_fmt}'):
            pass
        # %%
        print(auto)
        """,
        needs="tqdm ipywidgets",
        says="3/3",
    ),
    story(
        "progress whose look depends on a shell, and which was to be preloaded",
        """
        from tqdm.auto import tqdm
        import ipywidgets
        for n in tqdm(range(3)):
            pass
        # %%
        print(tqdm)
        ipywidgets.IntSlider(3)
        """,
        needs="tqdm ipywidgets",
        says="application/vnd.jupyter.widget-view+json",
        step={"start": KernelStart(preload=("tqdm.auto", "ipywidgets"))},
    ),
    story(
        "polars",
        """
        import polars as pl
        # %%
        frame = pl.DataFrame({'a': [1, 2, 3] * 1000, 'b': ['x', 'y', 'x'] * 1000})
        frame.group_by('b').agg(pl.col('a').sum()).sort('b')
        # %%
        frame.lazy().filter(pl.col('a') > 1).select(pl.len()).collect().item()
        # %%
        frame.write_parquet('made.parquet'); print(pl.read_parquet('made.parquet').shape, pl.thread_pool_size())
        """,
        needs="polars",
        says="<table",
        step={"start": KernelStart(preload=("polars",))},
    ),
    story(
        "torch",
        """
        import torch
        # %%
        torch.manual_seed(1); w = torch.randn(300, 300, requires_grad=True)
        (w @ w).sum().backward(); w.grad.sum()
        # %%
        from torch.utils.data import DataLoader
        print([b.tolist() for b in DataLoader(range(6), 2, num_workers=2)])
        # %%
        print(torch.get_num_threads(), torch.initial_seed(), torch.nn.Linear(3, 2)(torch.ones(3)))
        # %%
        torch.ones(2) @ torch.ones(3)
        """,
        needs="torch",
        fails="RuntimeError",
    ),
    story(
        "torch that was preloaded",
        """
        import torch, numpy
        # %%
        torch.manual_seed(1); w = torch.randn(300, 300, requires_grad=True)
        (w @ w).sum().backward(); w.grad.sum()
        # %%
        from torch.utils.data import DataLoader
        print([b.tolist() for b in DataLoader(range(6), 2, num_workers=2)])
        # %%
        print(torch.get_num_threads(), torch.initial_seed(), torch.nn.Linear(3, 2)(torch.ones(3)))
        """,
        needs="torch",
        step={"start": KernelStart(preload=("torch", "numpy"))},
    ),
    story(
        "seaborn and statsmodels",
        """
        import seaborn as sns, statsmodels.api as sm, numpy as np, pandas as pd
        # %%
        sns.set_theme()
        frame = pd.DataFrame({'a': range(20), 'b': [n * 2 + n % 3 for n in range(20)]})
        sns.regplot(frame, x='a', y='b', seed=1)
        # %%
        print(sm.OLS(frame.b, sm.add_constant(frame.a)).fit().params)
        sns.pairplot(frame)
        """,
        needs="seaborn statsmodels",
        says="image/png",
    ),
    story(
        "an error in a library",
        r"""
        import json, numpy as np
        class Own(Exception):
            pass
        def f(n):
            try:
                return f(n - 1) if n else json.loads('{')
            except ValueError as problem:
                raise Own('\x1b[31mred', n) from problem
        # %%
        import traceback, sys
        try:
            f(1)
        except Own:
            traceback.print_exc()
        # %%
        sys.last_value if hasattr(sys, 'last_value') else None
        # %%
        np.ones(3).reshape(2, 2)
        """,
        needs="numpy",
        fails="ValueError",
    ),
    story(
        "an error of its own",
        """
        def f(x):
            y = x
            return y / 0
        # %%
        %xmode Verbose
        f(1)
        """,
        fails="ZeroDivisionError",
    ),
    story(
        "a cell that cannot be read",
        """
        x = 1
        print(x)
        # %%
        for x in:
            pass
        """,
        fails="SyntaxError",
    ),
    story(
        "warnings",
        """
        import warnings
        def old():
            warnings.warn('gone', DeprecationWarning, stacklevel=2)
        def new():
            warnings.warn('look')
        # %%
        for _ in range(3):
            old(); new()
        # %%
        old()
        # %%
        import numpy as np, pandas as pd
        for f in warnings.filters:
            print(f)
        # %%
        old(); np.array([1]) / 0; np.log(-1.0)
        # %%
        warnings.simplefilter('error')
        old()
        """,
        needs="numpy pandas",
        says="DeprecationWarning: gone",
        fails="DeprecationWarning",
    ),
    story(
        "a library that is not imported by the cells themselves",
        """
        import beside, warnings
        # %%
        beside.load()
        print(*warnings.filters, sep='\\n')
        # %%
        import colorsys, doctest
        print(colorsys.__file__)
        """,
        files={"beside.py": "def load():\n    global numpy\n    import numpy, pandas, contourpy\n"},
        needs="numpy pandas contourpy",
    ),
    story(
        "numbers as they are shown",
        """
        import numpy as np
        np.float64(1.25)
        # %%
        %precision 3
        # %%
        [np.float64(1.23456789), 1.23456789, np.array([1.23456789])]
        """,
        needs="numpy",
        says="1.235",
    ),
    story(
        "logging",
        """
        import logging, sys, pandas, matplotlib.pyplot
        # %%
        logging.warning('root'); logging.info('not seen'); logging.getLogger('a.b').error('own')
        # %%
        print(logging.root.handlers, logging.root.level, logging.lastResort)
        # %%
        print(sorted(n for n, l in logging.root.manager.loggerDict.items()
          if getattr(l, 'handlers', None) or getattr(l, 'level', 0)))
        # %%
        logging.basicConfig(level='INFO', stream=sys.stdout, force=True, format='%(name)s %(message)s %(threadName)s')
        logging.info('seen')
        """,
        needs="pandas matplotlib",
        says="seen MainThread",
    ),
    story(
        "what belongs to the notebook",
        r"""
        import pickle, inspect, sys, os
        from dataclasses import dataclass
        @dataclass
        class Point:
            x: int = 1
        # %%
        print(pickle.loads(pickle.dumps(Point(3))), Point.__module__, sys.modules['__main__'].Point is Point)
        # %%
        def f():
            return 1  # here
        print(inspect.getsource(f), inspect.getfile(f))
        # %%
        print(__name__, '__file__' in globals(), sys.argv[0], sys.argv[1:2], len(sys.argv), __builtins__)
        # %%
        print(sorted(n for n in dir() if not n.startswith('_i')), type(sys.modules['__main__']), __doc__)
        # %%
        %run script.py 1 2
        # %%
        print(made, __name__)
        %run -n script.py
        # %%
        import beside; print(beside.__file__)
        from importlib import reload; reload(beside)
        # %%
        %load_ext autoreload
        %autoreload 2
        print(beside.value)
        os.environ.get('NBFLOW_RUN_ID')
        # %%
        print(In[-3:], _oh, _, __)
        %history -n 1
        %who
        # %%
        %pdef Point
        %psource Point
        Point?
        # %%
        %lsmagic
        # %%
        import doctest; doctest.run_docstring_examples('>>> 1\n1', {})
        # %%
        print(os.getcwd(), sys.path)
        # %%
        assert Point() == 2, 'no'
        """,
        files={
            "script.py": "import sys\nmade = (sys.argv, __name__, __file__)\nprint(made)\n",
            "beside.py": "value = 1\nprint('imported', __name__)\n",
        },
        fails="AssertionError",
        quick=True,
    ),
    story(
        "how deep it is",
        """
        import inspect
        print(len(inspect.stack()))
        # %%
        def deeper(n):
            return deeper(n + 1)
        deeper(0)
        """,
        fails="RecursionError",
    ),
    story(
        "a breakpoint",
        """
        for n in range(2):
            breakpoint()
        """,
    ),
    story(
        "settings of the user",
        """
        import matplotlib.pyplot as plt
        print(begun, told, get_ipython().ast_node_interactivity)
        plt.plot([1, 2])
        # %%
        1
        2
        # %%
        %load_ext autoreload
        plt.rcParams['figure.dpi'], plt.rcParams['lines.linewidth']
        """,
        files={
            "ipython/profile_default/startup/00.py": "begun = __name__\nimport pandas",
            "ipython/profile_default/ipython_kernel_config.py": "c.IPKernelApp.exec_lines = ['told = 2']\n"
            "c.IPKernelApp.extensions = ['autoreload']\n"
            "c.InteractiveShell.ast_node_interactivity = 'all'\n"
            "c.InlineBackend.rc = {'figure.dpi': 40, 'lines.linewidth': 9, 'svg.hashsalt': 'x'}\n"
            "c.InlineBackend.figure_formats = {'jpeg'}\n",
        },
        environment={"IPYTHONDIR": "{folder}/ipython", "PYTHONWARNINGS": "default"},
        needs="matplotlib pandas",
        says="image/jpeg",
    ),
    story(
        "a question",
        """
        print(input('who? '))
        """,
        fails="StdinNotImplementedError",
    ),
    story(
        "a question to the terminal",
        """
        import sys
        print(repr(sys.stdin.read()))
        open('/dev/tty')
        """,
        fails="OSError",
    ),
    story(
        "leaving",
        """
        import atexit, sys
        atexit.register(print, 'bye')
        print('a')
        # %%
        sys.exit(3)
        """,
        fails="SystemExit",
    ),
    story(
        "death",
        r"""
        import os, sys
        os.write(2, b'last words\n')
        print('a', flush=True)
        # %%
        os._exit(7)
        """,
    ),
    story(
        "a signal",
        """
        import os
        print('a', flush=True)
        # %%
        os.kill(os.getpid(), 11)
        """,
    ),
    story(
        "what is drawn again",
        """
        from IPython.display import display, clear_output, update_display, Markdown, JSON, Javascript, Image
        # %%
        handle = display('one', display_id='x')
        handle.update('two')
        update_display('three', display_id='x')
        # %%
        print('gone')
        clear_output()
        print('stays')
        display(Markdown('*a*'), JSON({'a': 1}), Javascript('1'), Image(data=b'1', format='png'))
        # %%
        class A:
            def _repr_html_(self):
                return '<b>'
            def __repr__(self):
                return 'A'
        A()
        # %%
        print(*range(2000))
        list(range(2000))[:3]
        # %%
        import sys
        print('err', file=sys.stderr)
        print(sys.stdout.encoding, sys.stdout.isatty(), sys.stderr.errors)
        """,
        says="stays",
    ),
    story(
        "signals",
        """
        import signal, os, time, threading
        # %%
        def heard(number, frame):
            print('heard', number)
        signal.signal(signal.SIGUSR1, heard)
        os.kill(os.getpid(), signal.SIGUSR1)
        # %%
        signal.signal(signal.SIGALRM, heard); signal.setitimer(signal.ITIMER_REAL, 0.02); time.sleep(0.06)
        # %%
        print({s.name: str(signal.getsignal(s)) for s in sorted(signal.valid_signals()) if hasattr(s, 'name')})
        # %%
        print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.sigpending(), signal.getitimer(signal.ITIMER_REAL))
        # %%
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        time.sleep(5)
        """,
        says="heard 10",
        fails="KeyboardInterrupt",
    ),
    story(
        "threads that print",
        """
        import threading, faulthandler, tracemalloc, gc, ctypes
        # %%
        threads = [threading.Thread(target=print, args=(n,)) for n in range(3)]
        for t in threads:
            t.start(); t.join()
        # %%
        failing = threading.Thread(target=lambda: 1 / 0)
        failing.start(); failing.join()
        # %%
        print([t.name for t in threading.enumerate() if type(t).__name__ != 'ParentPollerUnix'])
        # %%
        ctypes.CDLL(None).puts(b'from C'); ctypes.CDLL(None).fflush(None)
        # %%
        print(gc.isenabled(), gc.get_threshold(), faulthandler.is_enabled(), tracemalloc.is_tracing())
        """,
    ),
    story(
        "an environment set before the import",
        """
        import os
        os.environ['MPLBACKEND'] = 'agg'
        os.environ['OMP_NUM_THREADS'] = os.environ['OPENBLAS_NUM_THREADS'] = '1'
        # %%
        import matplotlib.pyplot as plt, numpy as np
        # %%
        print(len(os.listdir('/proc/self/task')) < 40, plt.get_backend())
        plt.plot([1]); plt.show()
        # %%
        import ctypes, re
        paths = {l.split()[-1] for l in open('/proc/self/maps') if 'openblas' in l}
        for p in sorted(paths):
            for n in ('scipy_openblas_get_num_threads64_', 'openblas_get_num_threads64_'):
                if hasattr(ctypes.CDLL(p), n): print(getattr(ctypes.CDLL(p), n)())
        """,
        needs="matplotlib numpy",
        says="agg",
    ),
    story(
        "an environment of the step",
        """
        import pandas as pd, matplotlib, os, time, locale, sys
        # %%
        print(matplotlib.get_backend(), time.tzname, os.environ['A'], sys.flags.utf8_mode)
        locale.setlocale(locale.LC_ALL)
        # %%
        print(pd.Timestamp(0, unit='s', tz=None), time.localtime(0).tm_hour, 'LATER' in os.environ)
        """,
        needs="pandas matplotlib",
        environment={"MPLBACKEND": "svg", "TZ": "Asia/Tokyo", "A": "x", "PYTHONHASHSEED": "7", "PYTHONUTF8": "1"},
        says="JST",
    ),
    story(
        "equal hashes",
        """
        print(hash('a'), {'b', 'a', 'c', 'd'})
        """,
        environment={"PYTHONHASHSEED": "5"},
    ),
    story(
        "modules of the folder that hide others",
        """
        import pandas, calendar
        print(pandas.own, pandas.__file__, calendar.__file__)
        """,
        needs="pandas",
        files={"pandas.py": "own = 'mine'\n", "calendar.py": "own = 'mine'\n"},
        says="mine",
        cold="its directory has a module pandas",
    ),
    story(
        "a module of the folder that a library would import",
        """
        import numpy, pandas, calendar
        print(calendar.__file__)
        """,
        needs="pandas",
        files={"calendar.py": "own = 'mine'\nday_name = ['x']\nday_abbr = ['x']\nmonth_name=['x']\n"},
    ),
    story(
        "settings of plots in the folder",
        """
        import matplotlib, matplotlib.pyplot as plt
        print(matplotlib.rcParams['lines.linewidth'], matplotlib.matplotlib_fname())
        # %%
        plt.plot([1, 2])
        """,
        needs="matplotlib",
        files={"matplotlibrc": "lines.linewidth: 7\n"},
        says="7.0",
        cold="its directory has a matplotlibrc",
    ),
    story(
        "modules on the path",
        """
        import onthepath, numpy, sys
        print(onthepath.value, sys.path[:2])
        """,
        needs="numpy",
        files={"lib/onthepath.py": "value = 4\n", "lib/numpy.py": "own = True\n"},
        environment={"PYTHONPATH": "{folder}/lib"},
        says="4 ",
    ),
    story(
        "a folder of its own",
        """
        import os, numpy, beside
        open('made.txt', 'w').write('x')
        print(os.listdir(), beside.value)
        """,
        needs="numpy",
        files={"beside.py": "value = 1\n"},
        says="['made.txt'] 1",
        step={"cwd": "item"},
    ),
)

QUICK = [one for one in STORIES if one.quick]


class Stop:
    """Nobody stops it."""

    reason = None
    kill = False

    def listen(self, callback):
        return lambda: None


class Heard(logging.Handler):
    """What is said of kernels that start cold, and of modules that templates do without."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(("a kernel starts cold", "template:")):
            self.lines.append(record.getMessage())


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Listen to what is quiet."""
    handler, logger = Heard(), logging.getLogger("nbflow.kernels")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.fixture(scope="module")
def interpreter() -> str:
    """The interpreter of the kernels."""
    return os.environ.get("NBFLOW_TEST_KERNEL", sys.executable)


def install(name: str, interpreter: str, folder: Path) -> None:
    """Make a kernel of an interpreter, in a folder for ``JUPYTER_PATH``."""
    spec = folder / "kernels" / name / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [interpreter, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": name, "language": "python"}))


@pytest.fixture(scope="module")
def specs(tmp_path_factory, interpreter) -> Iterator[Path]:
    """The folder of the kernels' specs."""
    folder = tmp_path_factory.mktemp("jupyter")
    install("tested", interpreter, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        yield folder


@pytest.fixture(scope="module")
def kernels(tmp_path_factory, specs) -> Iterator[LocalKernels]:
    """Kernels of processes that remember nothing from before this test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        made = LocalKernels()
    yield made
    made.close()


@pytest.fixture(scope="module")
def oldest(tmp_path_factory, specs) -> str:
    """The interpreter of an environment with the oldest ipykernel that is supported, and for the rest this one's."""
    folder = tmp_path_factory.mktemp("oldest")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    interpreter = str(folder / "bin/python")
    subprocess.run([interpreter, "-m", "pip", "install", "-q", "ipykernel==6.29.5", "ipython<9"], check=True)
    ours, theirs = (sysconfig.get_path("purelib", vars=base) for base in ({}, {"base": str(folder)}))
    (Path(theirs) / "others.pth").write_text(ours)
    install("oldest", interpreter, specs)
    return interpreter


@cache
def has(interpreter: str, module: str) -> bool:
    """Tell whether an environment has a module."""
    look = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return 0 == subprocess.run([interpreter, "-c", look], check=False, cwd="/").returncode


@dataclass
class Says:
    """What came of a notebook."""

    outputs: list[Any]
    outcome: Any
    log: str


class Place:
    """A folder with a notebook, which is run again and again."""

    def __init__(self, folder: Path, one: Story, kernels: LocalKernels, kernel: str = "tested") -> None:
        self.folder = folder / "work"
        self.kernels = kernels
        self.one = one
        for name, text in one.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        cells = [nbformat.v4.new_code_cell(cell) for cell in one.cells]
        spec = {"name": kernel, "display_name": kernel, "language": "python"}
        self.path = self.folder / "it.ipynb"
        self.folder.mkdir(exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), self.path)
        self.environment = {k: v.format(folder=self.folder) for k, v in one.environment.items()}

    def run(self, *, warm: bool) -> Says:
        """Run it in a kernel that is started, or forked."""
        run = self.folder / "run"
        places = Places(run, run / "0.ipynb", run / "0.failed.ipynb", run / "0.log", run / "artifacts", run / "item")
        warmth = {self.path.name: "modules" if warm else "none"}
        runner = NotebookRunner({"it.ipynb": read_notebook(self.path)}, self.folder, self.kernels, "r", warmth=warmth)
        step = NotebookStep(id="x", path="it.ipynb", **self.one.step)
        task = Task(("x",), "key", step, {}, 1, "x", 0, "print", dict(self.environment))
        outcome = runner(task, Context(places, Stop(), lambda event: None))
        made = places.notebook if outcome.status == "completed" else places.failed
        notebook = nbformat.read(made, 4)
        log = places.log.read_text()
        shutil.rmtree(run)
        told = {"status": outcome.status, "output": outcome.output, "failure": outcome.error, "wrote": outcome.wrote}
        outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
        return Says([normal(cell) for cell in outputs], normal(repr(told)), normal(log))


def normal(thing: Any) -> Any:
    """Give outputs or text without what may differ.

    What a cell prints to each of its streams is in order, but the two are read by two threads.
    """
    if isinstance(thing, str):
        for pattern, instead, _ in NORMAL:
            thing = re.sub(pattern, instead, thing)
        return thing
    streams: dict[str, str] = {}
    others = []
    for output in thing:
        if output.output_type == "stream":
            streams[output.name] = streams.get(output.name, "") + output.text
        else:
            others.append(json.loads(normal(json.dumps(output))))
    return [{name: normal(text) for name, text in sorted(streams.items())}, *others]


def same(one: Story, place: Place, heard: Heard) -> None:
    """Run a notebook cold and warm, and compare."""
    cold = place.run(warm=False)
    assert one.says in json.dumps(cold.outputs) or one.says in str(cold.outputs)
    assert one.fails in cold.outcome
    assert bool(one.fails) <= ("'failed'" in cold.outcome), cold.outcome
    assert not heard.lines
    for _ in ("a new template", "one that has learned"):
        warm = place.run(warm=True)
        assert cold.outputs == warm.outputs
        assert cold.outcome == warm.outcome
        assert sorted(cold.log.splitlines()) == sorted(warm.log.splitlines())
    if one.cold:
        assert 2 == sum(one.cold in line for line in heard.lines), heard.lines
    else:
        assert not heard.lines


LARGE = {"torch", "seaborn", "statsmodels"}
"""Libraries that are tried where they are installed; all others come with the ``dev`` extra."""


def needed(one: Story, interpreter: str) -> None:
    """Skip a notebook that cannot run."""
    for module in one.needs:
        if not has(interpreter, module):
            assert module in LARGE or interpreter != sys.executable, f"{module} is not installed"
            pytest.skip(f"{module} is not installed in the environment of the kernels")


def by_name(one: Story) -> str:
    """Name a test."""
    return one.name.replace(" ", "-")


@pytest.mark.parametrize("one", QUICK, ids=by_name)
def test_a_notebook_says_the_same_in_a_forked_kernel(one, tmp_path, kernels, interpreter, heard):
    """Outputs, results, and what the process printed."""
    needed(one, interpreter)
    same(one, Place(tmp_path, one, kernels), heard)


@pytest.mark.long
@pytest.mark.parametrize("one", [one for one in STORIES if not one.quick], ids=by_name)
def test_more_notebooks_say_the_same_in_a_forked_kernel(one, tmp_path, kernels, interpreter, heard):
    """Outputs, results, and what the process printed."""
    needed(one, interpreter)
    same(one, Place(tmp_path, one, kernels), heard)


PROBE = Path(__file__).with_name("warm_probe.py").read_text()

SEEN = (
    f"{PROBE}\nimport json\njson.dump(seen(of_the_process, of_python, of_the_kernel), open('fresh.json', 'w'))",
    "import numpy, pandas, matplotlib.pyplot",
    "json.dump(seen(of_the_process, of_python, of_the_kernel, of_libraries), open('later.json', 'w'))",
)
"""What a kernel knows before it imports libraries, and after that."""

May = Callable[[Any, Any], bool]


def never(cold: Any, warm: Any) -> bool:
    """Nothing may differ."""
    return False


def more(cold: list[str], warm: list[str]) -> bool:
    """Nothing is missing."""
    return not Counter(cold) - Counter(warm)


def others(cold: list[Any], warm: list[Any]) -> bool:
    """Nothing is shared."""
    return not {*cold} & {*warm}


DIFFERENT: dict[str, tuple[str, May]] = {
    "modules": ("what is preloaded, or learned, is there", more),
    "at exit": ("and has registered its ends; another one stops threads", lambda cold, warm: abs(warm - cold) <= 2),
    "hash": ("siblings have the seed of their template, unless PYTHONHASHSEED is set", lambda cold, warm: True),
    "random": ("nobody shares these", others),
    "random of numpy": ("nor these", others),
    "random of torch": ("nor these", others),
    "secret": ("nor the key of the session", others),
    "parent": ("its parent is the template", lambda cold, warm: cold and not warm),
    "descriptors": (
        "its life hangs on a socket",
        lambda cold, warm: more(cold, warm) and sum((Counter(warm) - Counter(cold)).values()) == 1,
    ),
    "threads": (
        "so it need not look after its owner",
        lambda cold, warm: ["ipykernel.parentpoller.ParentPollerUnix True"] == [*(Counter(cold) - Counter(warm))],
    ),
    "native threads": ("nor has it the one of jemalloc", lambda cold, warm: more(warm, cold)),
    "first environment": ("`ps e` shows what the template began with", lambda cold, warm: more(warm, cold)),
}
"""What differs between a kernel that was started and one that was forked: why, and how."""

ALMOST = ("at exit", "native threads", "random of torch")
"""What need not differ."""

UNTIL_IMPORTED: dict[str, May] = {"filters": more, "reducers": more, "lines": more}
"""What differs besides, until the cells have imported what was preloaded."""


def asked(place: Place, *, warm: bool) -> dict[str, dict[str, Any]]:
    """Ask a kernel; the folder with its connection file has a random name."""
    said = place.run(warm=warm)
    assert "'completed'" in said.outcome, said
    found = {name: (place.folder / f"{name}.json").read_text() for name in ("fresh", "later")}
    return {name: json.loads(re.sub(r"/nbf-[^/]*/", "/nbf/", text)) for name, text in found.items()}


def differences(cold: dict[str, Any], warm: dict[str, Any], allowed: dict[str, May]) -> list[Any]:
    """Give what differs otherwise than it may."""
    assert cold.keys() == warm.keys()
    changed = [name for name in cold if cold[name] != warm[name]]
    return [(name, cold[name], warm[name]) for name in changed if not allowed.get(name, never)(cold[name], warm[name])]


def fresh(place: Place, heard: Heard, begin: Callable[[], None] = lambda: None) -> None:
    """Compare what kernels know of themselves, but for what is declared; and siblings share no random number."""
    cold = asked(place, warm=False)
    begin()
    siblings = [asked(place, warm=True) for _ in range(2)]
    assert not heard.lines
    allowed = {name: may for name, (_, may) in DIFFERENT.items()}
    for warm in siblings:
        assert not differences(cold["later"], warm["later"], allowed)
        assert not differences(cold["fresh"], warm["fresh"], {**allowed, **UNTIL_IMPORTED})
        assert {*DIFFERENT} - {*ALMOST} <= {
            name for name in cold["later"] if cold["later"][name] != warm["later"][name]
        }
        assert warm["fresh"]["hash"] == siblings[0]["fresh"]["hash"]
    for name in ("random", "random of numpy", "secret"):
        assert others(siblings[0]["later"][name], siblings[1]["later"][name])


def test_a_forked_kernel_is_as_fresh_as_one_that_was_started(tmp_path, kernels, heard):
    """By all that it can know of itself."""
    fresh(Place(tmp_path, Story("probe", SEEN), kernels), heard)


@pytest.mark.long
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a template begins early on a second core")
def test_a_kernel_of_a_template_that_was_begun_early_is_as_fresh(tmp_path, specs, interpreter, heard):
    """It has the whole environment before it imports libraries, and kept nothing of the one that it began with."""
    if interpreter != sys.executable:
        pytest.skip("a template is begun early for this interpreter")
    kernels = LocalKernels(templates=False)  # it, or none
    one = Story("probe", SEEN, environment={"OMP_NUM_THREADS": "1", "NUMEXPR_MAX_THREADS": "3"})
    fresh(Place(tmp_path, one, kernels), heard, lambda: early.begin(["map"]))
    kernels.close()


@pytest.mark.long
def test_a_forked_kernel_of_the_oldest_ipykernel_is_as_fresh(tmp_path, kernels, oldest, heard):
    """It starts in its own way."""
    fresh(Place(tmp_path, Story("probe", SEEN), kernels, "oldest"), heard)


@pytest.mark.long
@pytest.mark.parametrize("one", QUICK, ids=by_name)
def test_a_notebook_says_the_same_with_the_oldest_ipykernel(one, tmp_path, kernels, oldest, heard):
    """The environment of a kernel need not have nbflow, nor the ipykernel that nbflow has."""
    needed(one, oldest)
    same(one, Place(tmp_path, one, kernels, "oldest"), heard)


@pytest.mark.long
def test_a_module_of_ones_own_that_was_preloaded_is_read_again_when_it_changes(tmp_path, kernels, interpreter, heard):
    """Nobody installs what stands on PYTHONPATH; people edit it while a workflow runs."""
    own = KernelStart(preload=("ownmodule",))
    cell = "import ownmodule, os; print(ownmodule.value, ownmodule.began == os.getpid())"
    files = {"lib/ownmodule.py": "import os\nvalue, began = 1, os.getpid()\n"}
    environment = {"PYTHONPATH": "{folder}/lib"}
    place = Place(tmp_path, Story("own", (cell,), files=files, environment=environment, step={"start": own}), kernels)
    assert [[{"stdout": "1 False\n"}]] == place.run(warm=True).outputs
    (place.folder / "lib/ownmodule.py").write_text("import os\nvalue, began = 22, os.getpid()\n")
    assert [[{"stdout": "22 False\n"}]] == place.run(warm=True).outputs
    assert not heard.lines


FROM_WHAT_IS_READY = """
import os, sys
shell = get_ipython()
began, = shell.history_manager.db.execute('select start from sessions').fetchone()
asked = os.stat(shell.kernel.parent.connection_file).st_mtime
print(began.timestamp() >= asked, shell.config is shell.kernel.parent.config)
print(sys.modules['_nbflow_ready'].Ready.given, getattr(shell, 'made_by', os.getpid()) == os.getpid())
"""
"""Tells whether the history is this kernel's, and whether its shell was made before the fork, or in it."""

ON_ITS_OWN = """
import os
from IPython.core.interactiveshell import InteractiveShell as Shell
plain = Shell.init_payload
def init_payload(self):
    plain(self)
    self.made_by = os.getpid()
Shell.init_payload = init_payload
"""
"""A release of IPython that notes something of the process."""


@pytest.mark.parametrize(
    ("files", "environment", "given"),
    [
        ({}, {}, True),
        ({"ipython/profile_default/ipython_config.py": ""}, {"IPYTHONDIR": "{folder}/ipython"}, False),
        ({"lib/sitecustomize.py": ON_ITS_OWN}, {"PYTHONPATH": "{folder}/lib"}, False),
    ],
    ids=["usual", "user's files", "another IPython"],
)
def test_a_shell_is_made_before_the_fork_if_it_is_the_same_then(tmp_path, kernels, heard, files, environment, given):
    """The first kernel of a template is made in the plain way; while it works the template gets ready."""
    place = Place(tmp_path, Story("ready", (FROM_WHAT_IS_READY,), files=files, environment=environment), kernels)
    place.run(warm=True)
    assert [[{"stdout": f"True True\n{given} True\n"}]] == place.run(warm=True).outputs
    assert not heard.lines
