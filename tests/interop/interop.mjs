// The built relay driven by nostr-tools, a library that we did not write, over a real socket.

import './basics.mjs';
import './private.mjs';
import './sync.mjs';
import './libraries.mjs';
import './management.mjs';
import { runAll } from './harness.mjs';

const { passed, failed } = await runAll();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
