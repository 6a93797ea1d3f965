"""CLIP-FlanT5 behind HTTP: python -m tests.full_size.served FOLDER --port 8731"""

import argparse
from typing import Any

import torch

from graft_lightning.domains.text_to_image.rewards import CLIPFlanT5Score
from graft_lightning.rejection.rewards.server import RewardServer


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m tests.full_size.served", description=__doc__)
    parser.add_argument("folder", help="of the network")
    parser.add_argument("--port", type=int, default=8731)
    options = parser.parse_args()
    judge = CLIPFlanT5Score(options.folder, batch_size=1)
    assert judge.network is not None  # loaded before anybody asks

    def score(samples: Any, conditions: list[str]) -> list[float]:
        return judge(torch.from_numpy(samples), conditions).tolist()

    with RewardServer(score, port=options.port, identity=options.folder) as server:
        print("serving", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
