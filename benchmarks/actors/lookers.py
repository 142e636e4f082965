"""People who look at a cluster; arguments: HOST:PORT of the broker, URL of a dashboard, and a token for it.

Orders: {"pages": [ADDRESS, ...]} opens these addresses of the dashboard as browsers do that follow them;
{"tokens": [TOKEN, ...]} opens a WatchCluster stream with each; {} ends all. Each answers when everybody has
got something.
"""

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import grpc.aio
import uvloop

from benchmarks.actors.orders import obey_async
from hyrex.transport.token import bearer_metadata
from hyrex.v1 import admin_service_pb2, admin_service_pb2_grpc

_READ: Final = 65_536


class Lookers:
    """Open streams of events and of frames, which are read and thrown away."""

    def __init__(self, broker: str, dashboard: str, token: str) -> None:
        self._broker = broker
        self._at = urlsplit(dashboard)
        self._token = token
        self._cookie = ""
        self._looking: list[asyncio.Task[None]] = []

    async def look(self, pages: Sequence[str] = (), tokens: Sequence[str] = ()) -> dict[str, Any]:
        """Have these look, and nobody else."""
        for each in self._looking:
            each.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)
        if pages and not self._cookie:
            self._cookie = await self._sign_in()
        seen = asyncio.Semaphore(0)
        every = [*(self._follow(each, seen) for each in pages), *(self._watch(each, seen) for each in tokens)]
        self._looking = [asyncio.create_task(each) for each in every]
        for _ in every:
            one = asyncio.ensure_future(seen.acquire())
            await asyncio.wait([one, *self._looking], return_when=asyncio.FIRST_COMPLETED)
            for each in self._looking:
                if each.done():
                    each.result()
            await one
        return {"looking": len(every)}

    async def _follow(self, page: str, seen: asyncio.Semaphore) -> None:
        reader, writer = await self._asked(
            f"GET /live?of={quote(page, safe='')}", f"Cookie: {self._cookie}\r\n"
        )
        with contextlib.closing(writer):
            status = await reader.readline()
            if b" 200 " not in status:
                raise RuntimeError(f"{page}: {status.decode().strip()}")
            event = (await reader.readuntil(b"\n\n")).partition(b"data: ")[2]
            while b'"state": ""' in event:  # before the first look
                event = (await reader.readuntil(b"\n\n")).partition(b"data: ")[2]
            if b'"state": "live"' not in event:
                raise RuntimeError(f"{page}: {event[:100]!r}")
            seen.release()
            while await reader.read(_READ):
                pass

    async def _watch(self, token: str, seen: asyncio.Semaphore) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._broker, options) as channel:
            stub = admin_service_pb2_grpc.AdminServiceStub(channel)
            metadata = bearer_metadata(token)
            call = stub.WatchCluster(admin_service_pb2.WatchClusterRequest(), metadata=metadata)
            while isinstance(await call.read(), admin_service_pb2.WatchClusterResponse):
                seen.release()

    async def _sign_in(self) -> str:
        form = urlencode({"token": self._token})
        head = f"Origin: {self._at.scheme}://{self._at.netloc}\r\nContent-Length: {len(form)}\r\n"
        kind = "Content-Type: application/x-www-form-urlencoded\r\n"
        reader, writer = await self._asked("POST /sign-in", head + kind, form)
        with contextlib.closing(writer):
            answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = dict(line.split(": ", 1) for line in answer.lower().splitlines() if ": " in line)
        if "set-cookie" not in lines:
            raise RuntimeError(answer)
        at = answer.lower().index("set-cookie: ") + len("set-cookie: ")
        return answer[at:].split(";", 1)[0]

    async def _asked(
        self, line: str, head: str, body: str = ""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._at.hostname, self._at.port)
        writer.write(f"{line} HTTP/1.1\r\nHost: {self._at.netloc}\r\n{head}\r\n{body}".encode())
        return reader, writer


async def main() -> None:
    """Obey until the orders end."""
    await obey_async(Lookers(*sys.argv[1:]).look)


if __name__ == "__main__":
    uvloop.run(main())
