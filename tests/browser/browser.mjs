// The pages of the built relay in a real browser.

import './landing_page.mjs';
import './dashboard.mjs';
import './states.mjs';
import { runAll } from './stage.mjs';

const { passed, failed } = await runAll();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
