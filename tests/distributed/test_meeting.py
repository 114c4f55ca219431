"""Processes find each other in a store that earlier, dead processes have used."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import torch.distributed as dist

from zeuxis.distributed import _name_of_start


def test_a_restart_does_not_meet_those_who_are_dead() -> None:
    server = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    server.set("zeuxis/ask/2", "asked by a process that died before it was answered")
    names: set[str] = set()
    for start, order in enumerate([(2, 1, 0), (0, 1, 2), (1, 0, 2)]):
        with ThreadPoolExecutor(3) as pool:
            asked = []
            for rank in order:
                client = dist.TCPStore("localhost", server.port, is_master=False, wait_for_workers=False)
                asked.append(pool.submit(_name_of_start, client, rank, 3))
                time.sleep(0.1)
            here = {each.result(30) for each in asked}
        assert len(here) == 1
        names |= here
        assert len(names) == start + 1
