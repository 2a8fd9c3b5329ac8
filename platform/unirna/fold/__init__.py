"""Secondary structures: probabilities of base pairs, the structure they imply, its drawing, and its training."""

from unirna.fold.constraint import Constraint, ConstraintError, FoldError, read_constraint
from unirna.fold.contacts import ContactHead, fit_contacts, precision_at_length
from unirna.fold.dot_plot import plot
from unirna.fold.drawing import draw
from unirna.fold.energies import Energies
from unirna.fold.inside_outside import Ensemble, NoStructureError, fold_all
from unirna.fold.predictor import Fold, StructurePredictor, load_structure_predictor
from unirna.fold.turner import free_energy

__all__ = [
    "Constraint",
    "ConstraintError",
    "ContactHead",
    "Energies",
    "Ensemble",
    "Fold",
    "FoldError",
    "NoStructureError",
    "StructurePredictor",
    "draw",
    "fit_contacts",
    "fold_all",
    "free_energy",
    "load_structure_predictor",
    "plot",
    "precision_at_length",
    "read_constraint",
]
