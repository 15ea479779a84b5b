"""All that knows ComfyUI's insides: where h is, how it is read, edited and differentiated, sampling, banks, paths."""

from .asyrp import sample_asyrp
from .bank_recording import Recording, Trajectories, bank_folder, folder_of, record_banks, sampling_recipe, source_of
from .baseline import CONSTANT, EACH_TIMESTEP, BaselinePass
from .classifier import load_classifier
from .clip import conditioning, similarities, text_embedding
from .decoding import decoded
from .fingerprint import digest, model_digest, weights_fingerprint
from .injection import inject, substitute
from .inversion import (
    Inversion,
    InvertedNoise,
    independent_noise,
    invert_ddim,
    invert_ddpm,
    no_noise,
    stored_inversion,
)
from .jacobian_search import JacobianSearch, pooled, steps_at
from .listings import (
    DEMO_CHECKPOINTS,
    DEMO_CLASSIFIER,
    DEMO_MODEL,
    classifier_folders,
    direction_file,
    free_path,
    model_folder,
    model_folders,
    score_file,
    score_files,
)
from .objective import classifier_objective, text_objective
from .pair_recording import find_slider, record_pairs
from .paths import DIRECTIONS, register_folders
from .pixel_ddpm import find_files, load_ddpm
from .progress import Progress, finder_progress
from .prompted_faces import load_prompted_faces
from .recorder import GRID, pooled_to, record
from .replacements import register_replacements
from .routes import register_banks, register_pages
from .sampling import sample, seed_range, single_latent
from .sites import (
    chosen_site,
    chosen_sites,
    levels_of,
    model_family,
    require_bottleneck,
    require_differentiable,
    sites_of,
)
from .slider_trainer import SliderTrainer
from .split_passes import visit_at_sigmas, visit_steps
from .trainer import Trainer, read_checkpoint, start_learner

__all__ = [
    "CONSTANT",
    "DEMO_CHECKPOINTS",
    "DEMO_CLASSIFIER",
    "DEMO_MODEL",
    "DIRECTIONS",
    "GRID",
    "EACH_TIMESTEP",
    "BaselinePass",
    "Inversion",
    "InvertedNoise",
    "JacobianSearch",
    "Progress",
    "Recording",
    "SliderTrainer",
    "Trainer",
    "Trajectories",
    "bank_folder",
    "chosen_site",
    "chosen_sites",
    "classifier_folders",
    "classifier_objective",
    "conditioning",
    "decoded",
    "digest",
    "direction_file",
    "find_files",
    "find_slider",
    "folder_of",
    "finder_progress",
    "free_path",
    "independent_noise",
    "inject",
    "invert_ddim",
    "invert_ddpm",
    "load_classifier",
    "levels_of",
    "load_ddpm",
    "load_prompted_faces",
    "model_digest",
    "model_family",
    "model_folder",
    "model_folders",
    "no_noise",
    "pooled",
    "pooled_to",
    "read_checkpoint",
    "record",
    "record_banks",
    "record_pairs",
    "register_banks",
    "register_folders",
    "register_pages",
    "register_replacements",
    "require_bottleneck",
    "require_differentiable",
    "sample",
    "sample_asyrp",
    "sampling_recipe",
    "score_file",
    "score_files",
    "seed_range",
    "similarities",
    "single_latent",
    "sites_of",
    "source_of",
    "start_learner",
    "steps_at",
    "stored_inversion",
    "substitute",
    "text_embedding",
    "text_objective",
    "visit_at_sigmas",
    "visit_steps",
    "weights_fingerprint",
]
