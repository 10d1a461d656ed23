from prep.api.datasets import collect_stats as collect_stats
from prep.api.datasets import convert_files as convert_files
from prep.api.datasets import make_tokens as make_tokens
from prep.api.datasets import mix_files as mix_files
from prep.api.datasets import register_dataset as register_dataset
from prep.api.datasets import split_file as split_file
from prep.combine.mix import MixOptions as MixOptions
from prep.combine.mix import MixResult as MixResult
from prep.combine.split import SplitOptions as SplitOptions
from prep.combine.split import SplitResult as SplitResult
from prep.combine.split import SplitSizes as SplitSizes
from prep.convert.options import ConvertOptions as ConvertOptions
from prep.convert.options import ConvertResult as ConvertResult
from prep.errors import UserError as UserError
from prep.quality.stats import DatasetStats as DatasetStats
from prep.quality.stats import StatsOptions as StatsOptions
from prep.registry.dataset_info import Registration as Registration
from prep.tokenized.make import MadeTokens as MadeTokens
from prep.tokens.turns import TemplateOptions as TemplateOptions

__version__: str
is_own_process: bool
