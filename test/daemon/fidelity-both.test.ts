import { matrix } from './support/matrix-test.js';

matrix('both ends');
