"""Names of the files that `gonogo certify` writes into a bundle."""

EVIDENCE = "evidence.json"
