"""The types that travel along the wires of the pack."""

from comfy_api.latest import io

HSpaceBank = io.Custom("HSPACE_BANK")
"""A `directions.Bank`."""
HSpaceDirection = io.Custom("HSPACE_DIRECTION")
"""A `directions.Direction`."""
HSpaceDirections = io.Custom("HSPACE_DIRECTIONS")
"""A `directions.DirectionSet`."""
HSpaceScores = io.Custom("HSPACE_SCORES")
"""A `directions.Scores`."""
HSpaceClassifier = io.Custom("HSPACE_CLASSIFIER")
"""A `host.Classifier`."""
HSpaceObjective = io.Custom("HSPACE_OBJECTIVE")
"""A `host.Objective`."""

CATEGORY = "h-space"
