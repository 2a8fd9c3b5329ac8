"""Secondary structures: probabilities of base pairs, the structure they imply, its drawing, and its training."""

from unirna.fold.drawing import draw
from unirna.fold.energies import Energies
from unirna.fold.folder import Fold, Folder, FoldError, load_folder
from unirna.fold.recursions import Ensemble, fold_all

__all__ = ["Energies", "Ensemble", "Fold", "FoldError", "Folder", "draw", "fold_all", "load_folder"]
