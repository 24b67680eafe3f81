"""The commented ``station.toml`` to start from."""

from __future__ import annotations

EXAMPLE = """\
# One inspection station. Paths are relative to the folder of this file.
station = "chip-line-1"
bundle = "chip.inspector"          # a bundle, a link to one, or a text file with its path; reloaded when it changes
ledger = "chip-line-1.ledger"      # the record; its frames are stored next to it
state_dir = "state"                # status.json, metrics.prom, copies of the bundles in use
# bundle_sha256 = "..."            # the only bundle that may judge
# device = "GPU"                   # "gonogo devices" lists them; the CPU judges if this one cannot
# require_signature = true         # judge only with bundles that are signed with a trusted key
# trust_store = "trust.json"       # the trusted keys: gonogo bundle keys add
# memory_mb = 4000                 # with [products]: beyond it, bundles that were not needed for longest are unloaded
window_s = 1.5                     # time limit for an answer; a later answer is a fault
camera_timeout_s = 0.8
queue = 8                          # parts that may wait; a further part is a fault
min_free_mb = 500                  # with less free disk space, every part is a fault

[[cameras]]                        # one for each camera; the worst picture decides
name = "top"

[cameras.camera]                   # folder, push, video_file, rtsp, v4l2, genicam or fake
kind = "folder"
folder = "incoming"

[cameras.health]                   # "gonogo station limits PHOTOS" measures these on good pictures
frozen = true
darkest = 40.0
saturated = 0.25
sharpness = 0.1
# size_wh = [640, 480]

[trigger]                          # folder, timer, http or stdin
kind = "folder"
folder = "incoming"

[answer]                           # stdout, file or http
kind = "stdout"

[http]                             # GET /status, /metrics, /health; POST /trigger
port = 8791
# token_file = "station.token"     # required if [trigger] is http

[watchdog]
restarts = 5
within_s = 60.0
stall_s = 5.0

# [products]                       # instead of "bundle": what the line makes, and the bundle that judges it
# chip = "chip.inspector"          # selected by the trigger, by a code on the part or by a person
# pill = { top = "pill.inspector" }  # or a bundle for each camera

# [challenge]                      # regular tests with known bad parts
# every_s = 3600.0
# grace_s = 600.0
# parts = ["CHALLENGE-*"]          # names of real challenge parts
# pictures = "challenge"           # or a folder with pictures of them; with [products], challenge/PRODUCT
# must_be = ["no_go"]

# [reject]                         # follow each part to the gate, and confirm its reject; see docs/reject.md
# track = "encoder"                # or "shift_register"
# distance = 4000                  # camera to gate, in counts or places
# tolerance = 60
# confirm_within_s = 1.0

# [fleet]                          # bundles come from a release server; "bundle" is a text file that is written
# channel = "chip"
# folder = "/mnt/releases"         # or url = "https://releases.plant.example"
# every_s = 30.0

# [expiry]                         # the certificate of the bundle has expired: an alarm, or every go to review
# after = "review"                 # default "warn"

# [centre]                         # forward the ledger to PostgreSQL; see docs/centre.md
# url_file = "centre.url"          # postgresql://user:password@host/database; chmod 600
# frames = "s3://plant/frames"     # or file:///folder

# [[results]]                      # deliver each result to other systems; see docs/results-out.md
# kind = "webhook"                 # folder, object_store, sql, webhook, mqtt or email
# name = "mes"
# url = "https://mes.example/hooks/gonogo"
# secret_file = "webhook.secret"   # chmod 600
"""
"""The output of ``gonogo station example``."""
