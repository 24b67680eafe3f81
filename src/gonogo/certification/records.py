"""Names of what `gonogo certify` writes into a bundle."""

EVIDENCE = "evidence.json"
