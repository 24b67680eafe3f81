"""Names of what `gonogo operate` writes into a bundle."""

EVIDENCE = "evidence.json"
