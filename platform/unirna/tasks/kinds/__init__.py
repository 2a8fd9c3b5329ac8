"""What can be predicted: classes, labels, values; of sequences or nucleotides."""
