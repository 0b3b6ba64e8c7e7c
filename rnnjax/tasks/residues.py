"""What is known of the twenty residues beside their names: for sets too small to learn it from."""

from __future__ import annotations

import numpy as np

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"

SCALES = """
A   1.8  88.6  0.00  1.42  0.83  0.66   0.0
C   2.5 108.5  0.68  0.70  1.19  1.19   0.0
D  -3.5 111.1  0.69  1.01  0.54  1.46  -1.0
E  -3.5 138.4  0.40  1.51  0.37  0.74  -1.0
F   2.8 189.9  0.54  1.13  1.38  0.60   0.0
G  -0.4  60.1  1.00  0.57  0.75  1.56   0.0
H  -3.2 153.2  0.61  1.00  0.87  0.95   0.3
I   4.5 166.7  0.41  1.08  1.60  0.47   0.0
K  -3.9 168.6  0.26  1.16  0.74  1.01   1.0
L   3.8 166.7  0.21  1.21  1.30  0.59   0.0
M   1.9 162.9  0.24  1.45  1.05  0.60   0.0
N  -3.5 114.1  0.65  0.67  0.89  1.56   0.0
P  -1.6 112.7  3.16  0.57  0.55  1.52   0.0
Q  -3.5 143.8  0.39  1.11  1.10  0.98   0.0
R  -4.5 173.4  0.21  0.98  0.93  0.95   1.0
S  -0.8  89.0  0.50  0.77  0.75  1.43   0.0
T  -0.7 116.1  0.66  0.83  1.19  0.96   0.0
V   4.2 140.0  0.61  1.06  1.70  0.50   0.0
W  -0.9 227.8  0.49  1.08  1.37  0.96   0.0
Y  -1.3 193.6  0.53  0.69  1.47  1.14   0.0
"""
"""The scales, a column each.

1. Hydropathy: positive where a residue shuns water (Kyte and Doolittle 1982, J. Mol. Biol. 157:105).
2. Volume in cubic angstroms (Zamyatnin 1972, Prog. Biophys. Mol. Biol. 24:107).
3. What it costs a helix, kcal/mol, measured in peptides (Pace and Scholtz 1998, Biophys. J. 75:422).
4 to 6. How much more often than others in helices, sheets and turns, of 29 proteins (Chou and Fasman 1978, Annu. Rev. Biochem. 47:251).
7. Charge in water.
"""
MIDDLE, SPREAD = np.array([0, 140, 0.6, 1, 1, 1, 0]), np.array([3, 40, 0.5, 1 / 3, 1 / 3, 1 / 3, 1])
KINDS = ("P", "G", "FHWY", "IVT")  # proline, glycine, aromatic, branched at the first carbon


def properties() -> np.ndarray:
    """`SCALES` in numbers of about the size of one, and which of `KINDS` it is, for each of `RESIDUES`: ``[20, 11]``.

    >>> properties().shape, properties()[RESIDUES.index("D"), 6].item()
    ((20, 11), -1.0)
    """
    rows = {row[0]: list(map(float, row[1:].split())) for row in SCALES.strip().splitlines()}
    scales = (np.array([rows[letter] for letter in RESIDUES]) - MIDDLE) / SPREAD
    kinds = np.array([[letter in kind for kind in KINDS] for letter in RESIDUES])
    return np.concatenate([scales, kinds], 1).astype(np.float32)
