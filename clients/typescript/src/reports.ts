// How runs ended: what is to be reported, and what was reported and is not acknowledged.
import { type Report, type Welcome } from "../gen/hyrex/v1/worker_service.js";
import { type Ending, reportOf, sizeOf, tokensOf } from "./columns.js";
import { MOST_ITEMS } from "./wire.js";

export class Reports {
  #ended: Ending[] = []; // to be framed
  #reports: Report[] = []; // unacknowledged
  #last = 0n;
  #sent = 0; // how many of the reports the stream that lives now has carried

  add(end: Ending): void {
    this.#ended.push(end);
  }

  /** Another stream has carried none of them. */
  beginAnew(): void {
    this.#sent = 0;
  }

  /** Whether all that was framed is acknowledged. */
  get isEmpty(): boolean {
    return this.#reports.length === 0;
  }

  /** Forgets a report that was acknowledged; the tokens of its runs. */
  settle(reportId: bigint): bigint[] {
    const place = this.#reports.findIndex((report) => report.reportId === reportId);
    if (place < 0) return [];
    const [report] = this.#reports.splice(place, 1);
    if (place < this.#sent) this.#sent--;
    return tokensOf(report!);
  }

  /** The report to send now, if any may be sent; frames what has ended, within the broker's limits. */
  next({ maxFrameBytes, maxUnacknowledgedReports }: Welcome): Report | undefined {
    if (this.#sent === this.#reports.length && this.#ended.length > 0) {
      let count = 0;
      for (let bytes = 0; count < Math.min(this.#ended.length, MOST_ITEMS); count++) {
        bytes += sizeOf(this.#ended[count]!);
        if (count > 0 && bytes > maxFrameBytes) break;
      }
      this.#reports.push(reportOf(++this.#last, this.#ended.splice(0, count)));
    }
    const unacknowledged = this.#reports.slice(0, this.#sent + 1).reduce((sum, report) => sum + tokensOf(report).length, 0);
    return unacknowledged <= maxUnacknowledgedReports && this.#sent < this.#reports.length ? this.#reports[this.#sent++] : undefined;
  }
}
