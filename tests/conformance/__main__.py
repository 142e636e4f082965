"""The program behind scripts/conformance: plays the scenarios, prints a table, exits 1 on any failure."""

import argparse
import asyncio
import sys
from pathlib import Path

from hyrex_broker.embedded import EmbeddedPostgres
from tests.conformance.cluster import Cluster
from tests.conformance.languages import LANGUAGES
from tests.conformance.suite import Result, Suite, Verdict, load_scenarios
from tests.conformance.table import as_json, as_markdown, as_text
from tests.support.postgres import migrate_now


async def run(database_url: str, languages: list[str], names: list[str]) -> list[Result]:
    """Play these scenarios on brokers of their own."""
    cluster = Cluster(database_url)
    try:
        return await Suite(cluster).run([LANGUAGES[name] for name in languages], load_scenarios(names))
    finally:
        await cluster.end()


def main() -> int:
    """Run the suite as the command line says."""
    parser = argparse.ArgumentParser(prog="conformance", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lang", default=",".join(LANGUAGES), help="of python,go,ts,java,rust; default: all")
    parser.add_argument("--scenario", default="", help="names separated by commas; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers of each language here")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table here, as Markdown")
    arguments = parser.parse_args()
    languages = arguments.lang.split(",")
    if unknown := sorted(set(languages) - LANGUAGES.keys()):
        parser.error(f"no language {unknown[0]!r}; there are {', '.join(LANGUAGES)}")
    with EmbeddedPostgres(durable=False) as server:
        migrate_now(server.url)
        results = asyncio.run(
            run(server.url, languages, [one for one in arguments.scenario.split(",") if one])
        )
    print(as_text(results))
    if arguments.json:
        arguments.json.write_text(as_json(results))
    if arguments.table:
        arguments.table.write_text(as_markdown(results))
    return 1 if any(result.verdict is Verdict.FAILED for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
