import { matrix } from './support/matrix-test.js';

matrix('the client only');
