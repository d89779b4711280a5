import { matrix } from './support/matrix-test.js';

matrix('the server only');
