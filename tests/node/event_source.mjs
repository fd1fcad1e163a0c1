// Prints each event of an EventSource as a line of JSON: node event_source.mjs URL
import { EventSource } from "eventsource";

const source = new EventSource(process.argv[2]);
source.onmessage = ({ data }) => console.log(data);
