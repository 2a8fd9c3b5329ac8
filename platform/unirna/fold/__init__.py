"""Secondary structures: probabilities of base pairs, the structure they imply, its drawing, and its training."""

from unirna.fold.contacts import ContactHead, fit_contacts, precision_at_length
from unirna.fold.drawing import draw
from unirna.fold.energies import Energies
from unirna.fold.predictor import Fold, FoldError, StructurePredictor, load_structure_predictor
from unirna.fold.recursions import Ensemble, fold_all

__all__ = [
    "ContactHead",
    "Energies",
    "Ensemble",
    "Fold",
    "FoldError",
    "StructurePredictor",
    "draw",
    "fit_contacts",
    "fold_all",
    "load_structure_predictor",
    "precision_at_length",
]
